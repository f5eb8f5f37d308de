// The one pass over a tile gives what the plain passes give.
#include "checkpoint/format/tile_sums.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "checkpoint/format/tile_bytes.h"

namespace sutor {
namespace {

constexpr int64_t kPiece = int64_t{128} << 10;

std::vector<float> random_values(int64_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> value(-1, 1);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& x : values) x = value(random);
  return values;
}

TEST(TileSums, EqualThePlainPassesAroundPiecesAndBlocks) {
  for (const int64_t bytes : {int64_t{0}, int64_t{4}, kPiece - 4, kPiece, kPiece + 4,
                              kBlockBytes - 4, kBlockBytes, kBlockBytes + 4, 3 * kBlockBytes + 8}) {
    const std::vector<float> values = random_values(bytes / 4);
    const auto memory = std::as_bytes(std::span(values));
    const TileSums sums = tile_sums(memory, DType::kF32);
    EXPECT_EQ(sums.digest, xxh3(memory)) << bytes;
    EXPECT_EQ(sums.block_crcs, block_crcs(memory)) << bytes;
    EXPECT_TRUE(sums.all_finite) << bytes;
  }
}

TEST(TileSums, SeeEveryValueThatIsNotFinite) {
  const std::vector<float> values = random_values(kPiece / 2);  // two pieces
  const auto count = static_cast<int64_t>(values.size());
  for (const int64_t at : {int64_t{0}, kPiece / 4 - 1, kPiece / 4, count - 1}) {
    for (const float bad : {std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(), std::nanf("")}) {
      std::vector<float> damaged = values;
      damaged[static_cast<size_t>(at)] = bad;
      EXPECT_FALSE(tile_sums(std::as_bytes(std::span(damaged)), DType::kF32).all_finite) << at;
    }
  }
}

TEST(TileSums, ReadBf16AsBf16) {
  const std::vector<uint16_t> largest(100, 0x7f7f), infinite(100, 0xff80);
  EXPECT_TRUE(tile_sums(std::as_bytes(std::span(largest)), DType::kBF16).all_finite);
  EXPECT_FALSE(tile_sums(std::as_bytes(std::span(infinite)), DType::kBF16).all_finite);
}

}  // namespace
}  // namespace sutor
