// Random bits that every machine has alike: known values, and the sequence that orders of samples
// depend on.
#include "csrc/base/random.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace sutor {
namespace {

TEST(Random, Mix64IsTheFinaliserOfSplitMix64) {
  // The first outputs of the published generator from seed 0.
  EXPECT_EQ(mix64(kGolden64), 0xe220a8397b1dcdafu);
  EXPECT_EQ(mix64(2 * kGolden64), 0x6e789e6aa1b965f4u);
}

TEST(Random, UnitIsBelowOne) {
  EXPECT_EQ(unit_of(0), 0.0);
  EXPECT_EQ(unit_of(uint64_t{1} << 63), 0.5);
  EXPECT_LT(unit_of(~uint64_t{0}), 1.0);
}

TEST(Shuffle, IsThePlainLoopFromTheEndOverTheTwister) {
  std::vector<int> items(100), expected(100);
  std::iota(items.begin(), items.end(), 0);
  expected = items;
  std::mt19937_64 random(7), same(7);
  shuffle(items, random);
  for (int i = 99; i > 0; --i) {
    const auto j = static_cast<int>(same() % static_cast<uint64_t>(i + 1));
    const int moved = expected[i];
    expected[i] = expected[j];
    expected[j] = moved;
  }
  EXPECT_EQ(items, expected);
  EXPECT_EQ(random(), same());  // and it took as many numbers
}

TEST(Shuffle, LeavesShortListsAndTheirGeneratorAlone) {
  std::vector<int> none, one{5};
  std::mt19937_64 random(7);
  shuffle(none, random);
  shuffle(one, random);
  EXPECT_EQ(one, std::vector<int>{5});
  EXPECT_EQ(random(), std::mt19937_64(7)());
}

}  // namespace
}  // namespace sutor
