// Digests against published values, and of chunks against those of the whole.
#include "csrc/base/hash.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/expect_error.h"

namespace sutor {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Hash, EmptyInputHasThePublishedXxh3Digest) {
  EXPECT_EQ(xxh3("").text(), "xxh3:99aa06d3014798d86001c324468d497f");
}

TEST(Hash, ChunksGiveTheDigestOfTheWhole) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 37);
  Hasher hasher;
  hasher.update(std::string_view(text).substr(0, 1));
  hasher.update(std::string_view());
  hasher.update(std::string_view(text).substr(1, 400));
  hasher.update(std::string_view(text).substr(401));
  EXPECT_EQ(hasher.digest(), xxh3(text));
}

TEST(Hash, DigestTextRoundTrips) {
  const Digest digest = xxh3("sutor");
  EXPECT_EQ(parse_digest(digest.text(), "here"), digest);
}

TEST(Hash, OtherTextIsNoDigest) {
  for (const char* text : {"", "xxh3:12", "xxh3:99aa06d3014798d86001c324468d497g",
                           "sha1:99aa06d3014798d86001c324468d497f"}) {
    testing::expect_error(ErrorCode::kBadDigest, {"base.json"},
                          [&] { parse_digest(text, "base.json"); });
  }
}

TEST(Hash, Crc32cHasThePublishedValues) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32)), 0x8a9136aau);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xff})), 0x62a8ab43u);
  EXPECT_EQ(crc32c({}), 0u);
}

// By its definition: a division of polynomials, bit by bit.
uint32_t crc32c_by_definition(std::span<const std::byte> bytes) {
  uint32_t crc = ~0u;
  for (const std::byte byte : bytes) {
    crc ^= std::to_integer<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

TEST(Hash, Crc32cIsItsDefinitionAtEveryLengthAndSplit) {
  std::vector<std::byte> data(67);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 151 + 7);
  const std::span<const std::byte> all(data);
  for (size_t n = 0; n <= all.size(); ++n) {
    const uint32_t whole = crc32c(all.first(n));
    EXPECT_EQ(crc32c_by_definition(all.first(n)), whole);
    for (size_t split = 0; split <= n; split += 5) {
      EXPECT_EQ(crc32c(all.subspan(split, n - split), crc32c(all.first(split))), whole);
    }
  }
}

}  // namespace
}  // namespace sutor
