// Layers to stages and experts to ranks.
#include <gtest/gtest.h>

#include "parallel_state/layout/stage_map.h"
#include "parallel_state/placement/expert_placement.h"
#include "tests/support/message_of.h"

namespace sutor {
namespace {

using testing::message_of;

TEST(StageMap, TheFirstStagesTakeTheRemainder) {
  const StageMap two(27, 2);
  EXPECT_EQ(two.layers_of(0), 14);
  EXPECT_EQ(two.layers_of(1), 13);
  EXPECT_EQ(two.first_layer(1), 14);
  const StageMap four(27, 4);
  EXPECT_EQ(four.layers_of(2), 7);
  EXPECT_EQ(four.layers_of(3), 6);
}

TEST(StageMap, EveryLayerIsOnOneStageUnderItsOwnLocalNumber) {
  for (int layers = 1; layers <= 30; ++layers) {
    for (int stages = 1; stages <= layers; ++stages) {
      const StageMap map(layers, stages);
      int next = 0;
      for (int stage = 0; stage < stages; ++stage) {
        for (int local = 0; local < map.layers_of(stage); ++local, ++next) {
          ASSERT_EQ(map.stage_of(next), stage);
          ASSERT_EQ(map.local_layer(next), local);
        }
      }
      ASSERT_EQ(next, layers);
    }
  }
}

TEST(StageMap, ATableIsTakenAsItIs) {
  const StageMap map(8, 3, "1,4,3");
  EXPECT_EQ(map.stage_of(0), 0);
  EXPECT_EQ(map.stage_of(4), 1);
  EXPECT_EQ(map.local_layer(7), 2);
}

TEST(StageMap, NumbersOfLayersMayBeGiven) {
  const StageMap map(std::vector<int>{1, 4, 3});
  EXPECT_EQ(map.num_layers(), 8);
  EXPECT_EQ(map.stage_of(4), 1);
  EXPECT_EQ(message_of(
                [] {
                  StageMap(std::vector<int>{1, 0});
                },
                ErrorCode::kBadLayout),
            "parallel.stages 1,0: each stage needs at least one layer.");
}

TEST(StageMap, AutoNeedsToKnowWhatTrainsExceptOnOneStage) {
  EXPECT_EQ(StageMap(8, 1, "auto").layers_of(0), 8);
  EXPECT_NE(
      message_of([] { StageMap(8, 2, "auto"); }, ErrorCode::kBadLayout).find("not known here"),
      std::string::npos);
}

TEST(StageMap, WrongTablesAreRefused) {
  message_of([] { StageMap(8, 3, "1,4,4"); }, ErrorCode::kBadLayout);
  message_of([] { StageMap(8, 2, "1,4,3"); }, ErrorCode::kBadLayout);
  message_of([] { StageMap(8, 3, "1,x,3"); }, ErrorCode::kBadLayout);
  message_of([] { StageMap(8, 3, "8,0,0"); }, ErrorCode::kBadLayout);
  message_of([] { StageMap(2, 3); }, ErrorCode::kBadLayout);
}

TEST(ExpertPlacement, ContiguousBlocksAsInMegatron) {
  const ExpertPlacement placement(64, 4);
  EXPECT_EQ(placement.num_local_experts(), 16);
  EXPECT_EQ(placement.ep_rank_of(3, 37), 2);
  EXPECT_EQ(placement.local_id(3, 37), 5);
  for (int expert = 0; expert < 64; ++expert) {
    EXPECT_EQ(
        placement.global_id(3, placement.ep_rank_of(3, expert), placement.local_id(3, expert)),
        expert);
  }
}

TEST(ExpertPlacement, ASizeThatDoesNotDivideNamesThoseThatDo) {
  EXPECT_EQ(message_of([] { ExpertPlacement(128, 6, 8); }, ErrorCode::kBadPlacement),
            "parallel.ep=6 does not divide 128 experts. Divisors that fit 8 ranks: 1, 2, 4, 8.");
  EXPECT_EQ(
      message_of([] { ExpertPlacement(128, {.pp = 2, .ep = 6}, 16); }, ErrorCode::kBadPlacement),
      "parallel.ep=6 does not divide 128 experts. Divisors that fit 8 ranks: 1, 2, 4, 8.");
  EXPECT_EQ(message_of([] { ExpertPlacement(6, 4); }, ErrorCode::kBadPlacement),
            "parallel.ep=4 does not divide 6 experts. Divisors: 1, 2, 3, 6.");
}

TEST(ExpertPlacement, LayersMayBePermuted) {
  const ExpertPlacement placement(4, 2, 0, {{3, {.rank_of = {1, 0, 1, 0}}}});
  EXPECT_EQ(placement.ep_rank_of(3, 0), 1);
  EXPECT_EQ(placement.local_id(3, 0), 0);
  EXPECT_EQ(placement.ep_rank_of(3, 3), 0);
  EXPECT_EQ(placement.local_id(3, 3), 1);
  EXPECT_EQ(placement.ep_rank_of(4, 0), 0);  // the other layers are contiguous
  for (int layer : {3, 4}) {
    for (int expert = 0; expert < 4; ++expert) {
      EXPECT_EQ(placement.global_id(layer, placement.ep_rank_of(layer, expert),
                                    placement.local_id(layer, expert)),
                expert);
    }
  }
  message_of(
      [] {
        ExpertPlacement(4, 2, 0, {{3, {.rank_of = {1, 0, 1, 1}}}});
      },
      ErrorCode::kBadPlacement);
  message_of(
      [] {
        ExpertPlacement(4, 2, 0, {{3, {.rank_of = {0, 1}}}});
      },
      ErrorCode::kBadPlacement);
}

}  // namespace
}  // namespace sutor
