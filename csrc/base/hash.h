// Digests: xxh3-128 (libxxhash) identifies content, crc32c (ISA-L) guards blocks and TensorBoard
// records.
// Both detect accidents, not forgeries.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace sutor {

struct Digest {
  uint64_t high = 0;
  uint64_t low = 0;

  auto operator<=>(const Digest&) const = default;
  // "xxh3:" and 32 lower-case hex digits, most significant first, as `xxhsum -H2` prints them.
  std::string text() const;
};

// The inverse of Digest::text(); throws E0340 naming `where` for anything else.
Digest parse_digest(std::string_view text, std::string_view where);

Digest xxh3(std::span<const std::byte> bytes);
Digest xxh3(std::string_view text);

// Streaming xxh3-128: the digest of all chunks, concatenated.
class Hasher {
 public:
  Hasher();
  Hasher(Hasher&&) noexcept = default;
  Hasher& operator=(Hasher&&) noexcept = default;

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);
  // Little-endian, so that digests agree between machines. For lengths and shapes.
  void update_int(int64_t value);
  // The digest of everything so far; more may follow.
  Digest digest() const;

 private:
  struct Release {
    void operator()(void* state) const;
  };
  std::unique_ptr<void, Release> state_;
};

// CRC-32C (Castagnoli, reflected, as iSCSI and TFRecord use it). To continue, pass the crc of the
// preceding bytes.
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t crc = 0);

}  // namespace sutor
