#include "csrc/base/hash.h"

#include <isa-l/crc.h>
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // the functions of xxhash.h by what the processor has: six times faster
#endif

#include <algorithm>
#include <array>
#include <cstring>

#include "csrc/base/error.h"

namespace sutor {
namespace {

Digest from_xxh(XXH128_hash_t hash) { return {hash.high64, hash.low64}; }

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

constexpr size_t kMostCrcBytes = size_t{1} << 30;  // the library counts in int

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
    fail(ErrorCode::kBadDigest, "{}: `{}` is not a digest; expected `xxh3:` and 32 hex digits",
         where, text);
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
  crc = ~crc;
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(bytes.size(), kMostCrcBytes));
    // It only reads; its parameter lacks the const.
    auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(piece.data()));
    crc = crc32_iscsi(data, static_cast<int>(piece.size()), crc);
    bytes = bytes.subspan(piece.size());
  }
  return ~crc;
}

}  // namespace sutor
