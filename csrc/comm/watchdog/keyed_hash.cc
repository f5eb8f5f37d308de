#include "csrc/comm/watchdog/keyed_hash.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "csrc/base/error.h"

namespace sutor {
namespace {

struct State {
  uint64_t a, b, c, d;

  void round() {
    a += b;
    b = std::rotl(b, 13) ^ a;
    a = std::rotl(a, 32);
    c += d;
    d = std::rotl(d, 16) ^ c;
    a += d;
    d = std::rotl(d, 21) ^ a;
    c += b;
    b = std::rotl(b, 17) ^ c;
    c = std::rotl(c, 32);
  }
  void take(uint64_t word) {
    d ^= word;
    round();
    round();
    a ^= word;
  }
};

// The first bytes of the text, little-endian.
uint64_t word_of(std::string_view text) {
  uint64_t word = 0;
  for (size_t i = 0; i < text.size() && i < 8; ++i) {
    word |= uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
  }
  return word;
}

}  // namespace

uint64_t sip_hash(uint64_t key_low, uint64_t key_high, std::string_view text) {
  State state{key_low ^ 0x736f6d6570736575, key_high ^ 0x646f72616e646f6d,
              key_low ^ 0x6c7967656e657261, key_high ^ 0x7465646279746573};
  const uint64_t length = uint64_t{text.size() & 0xff} << 56;
  for (; text.size() >= 8; text.remove_prefix(8)) state.take(word_of(text));
  state.take(length | word_of(text));
  state.c ^= 0xff;
  for (int i = 0; i < 4; ++i) state.round();
  return state.a ^ state.b ^ state.c ^ state.d;
}

std::string keyed_hash(const std::string& key, std::string_view text) {
  SUTOR_ASSERT(key.size() == 32);
  const uint64_t low = std::stoull(key.substr(0, 16), nullptr, 16);
  const uint64_t high = std::stoull(key.substr(16), nullptr, 16);
  return fmt::format("{:016x}", sip_hash(low, high, text));
}

}  // namespace sutor
