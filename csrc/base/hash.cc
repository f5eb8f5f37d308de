#include "csrc/base/hash.h"

#include <xxhash.h>

#include <array>
#include <cstring>

#include "csrc/base/error.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace sutor {
namespace {

Digest from_xxh(XXH128_hash_t hash) { return {hash.high64, hash.low64}; }

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Row n maps a byte to its effect n bytes further on, so that eight bytes go in one step.
constexpr std::array<std::array<uint32_t, 256>, 8> make_crc_tables() {
  constexpr uint32_t kPolynomial = 0x82f63b78;  // 0x1edc6f41 reflected
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (size_t row = 1; row < 8; ++row) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t crc = tables[row - 1][byte];
      tables[row][byte] = (crc >> 8) ^ tables[0][crc & 0xff];
    }
  }
  return tables;
}
constexpr auto kCrcTables = make_crc_tables();

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc32c_by_instruction(std::span<const std::byte> bytes,
                                                                 uint32_t crc) {
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  uint64_t state = ~crc;
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    state = _mm_crc32_u64(state, word);
  }
  uint32_t tail = static_cast<uint32_t>(state);
  for (; left > 0; ++at, --left) tail = _mm_crc32_u8(tail, std::to_integer<uint8_t>(*at));
  return ~tail;
}
#endif

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string Digest::text() const { return fmt::format("xxh3:{:016x}{:016x}", high, low); }

Digest parse_digest(std::string_view text, std::string_view where) {
  Digest digest;
  bool good = text.size() == 37 && text.starts_with("xxh3:");
  for (size_t i = 5; good && i < text.size(); ++i) {
    const int value = hex_value(text[i]);
    good = value >= 0;
    uint64_t& half = i < 21 ? digest.high : digest.low;
    half = half << 4 | static_cast<uint64_t>(value);
  }
  if (!good) {
    fail(ErrorCode::kBadDigest, "{}: `{}` is no digest; expected `xxh3:` and 32 hex digits", where,
         text);
  }
  return digest;
}

Digest xxh3(std::span<const std::byte> bytes) {
  return from_xxh(XXH3_128bits(bytes.data(), bytes.size()));
}

Digest xxh3(std::string_view text) { return xxh3(bytes_of(text)); }

void Hasher::Release::operator()(void* state) const {
  XXH3_freeState(static_cast<XXH3_state_t*>(state));
}

Hasher::Hasher() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_.get()));
}

void Hasher::update(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_.get()), bytes.data(), bytes.size());
}

void Hasher::update(std::string_view text) { update(bytes_of(text)); }

void Hasher::update_int(int64_t value) {
  std::array<std::byte, 8> bytes;
  for (size_t i = 0; i < 8; ++i) {
    bytes[i] = static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i));
  }
  update(std::span<const std::byte>(bytes));
}

Digest Hasher::digest() const {
  return from_xxh(XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_.get())));
}

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t crc) {
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  if (has_instruction) return crc32c_by_instruction(bytes, crc);
#endif
  return crc32c_by_table(bytes, crc);
}

uint32_t crc32c_by_table(std::span<const std::byte> bytes, uint32_t crc) {
  crc = ~crc;
  size_t i = 0;
  const auto at = [&](size_t k) { return std::to_integer<uint32_t>(bytes[i + k]); };
  for (; i + 8 <= bytes.size(); i += 8) {
    const uint32_t first = crc ^ (at(0) | at(1) << 8 | at(2) << 16 | at(3) << 24);
    crc = kCrcTables[7][first & 0xff] ^ kCrcTables[6][first >> 8 & 0xff] ^
          kCrcTables[5][first >> 16 & 0xff] ^ kCrcTables[4][first >> 24] ^ kCrcTables[3][at(4)] ^
          kCrcTables[2][at(5)] ^ kCrcTables[1][at(6)] ^ kCrcTables[0][at(7)];
  }
  for (; i < bytes.size(); ++i) crc = (crc >> 8) ^ kCrcTables[0][(crc ^ at(0)) & 0xff];
  return ~crc;
}

}  // namespace sutor
