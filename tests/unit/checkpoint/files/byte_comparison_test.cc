// Two places compared piece by piece.
#include "checkpoint/files/byte_comparison.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace sutor {
namespace {

// The other place: a text, which counts how often it is read.
struct Other {
  std::string text;
  int reads = 0;

  ByteComparison::Read read() {
    return [this](int64_t offset, std::span<std::byte> into) {
      ++reads;
      std::memcpy(into.data(), text.data() + offset, into.size());
    };
  }
};

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(ByteComparison, EqualPiecesAreEqualHoweverTheyAreCut) {
  Other other{"xxabcdef"};
  ByteComparison comparison(other.read(), 2);
  for (const char* piece : {"a", "bcd", "", "ef"}) EXPECT_TRUE(comparison.add(bytes_of(piece)));
  EXPECT_TRUE(comparison.equal());
}

TEST(ByteComparison, OneOtherByteIsFound) {
  for (size_t changed = 0; changed < 6; ++changed) {
    Other other{"abcdef"};
    other.text[changed] ^= 1;
    ByteComparison comparison(other.read());
    EXPECT_EQ(comparison.add(bytes_of("abc")), changed >= 3);
    EXPECT_FALSE(comparison.add(bytes_of("def")));
    EXPECT_FALSE(comparison.equal());
  }
}

TEST(ByteComparison, NothingIsReadBehindTheFirstDifference) {
  Other other{"abcdef"};
  ByteComparison comparison(other.read());
  EXPECT_FALSE(comparison.add(bytes_of("abX")));
  EXPECT_FALSE(comparison.add(bytes_of("def")));
  EXPECT_EQ(other.reads, 1);
}

TEST(ByteComparison, NothingEqualsNothing) {
  ByteComparison comparison({});
  EXPECT_TRUE(comparison.add({}));
  EXPECT_TRUE(comparison.equal());
}

}  // namespace
}  // namespace sutor
