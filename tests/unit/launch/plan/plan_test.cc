// The pure parts of `sutor plan`: sizes, planned routing, and the communicator of dry runs.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <numeric>

#include "csrc/base/error.h"
#include "csrc/ops/device/memory.h"
#include "csrc/ops/shapes/planned_routing.h"
#include "launch/plan/plan_fit.h"
#include "launch/plan/planned_comm.h"
#include "launch/plan/planned_shares.h"

namespace sutor {
namespace {

TEST(PlanSizes, HaveUnitsOfBothKinds) {
  EXPECT_EQ(parse_bytes("24GiB", "--device-memory"), int64_t{24} << 30);
  EXPECT_EQ(parse_bytes("1.5 TiB", "--device-memory"), int64_t{3} << 39);
  EXPECT_EQ(parse_bytes("80GB", "--device-memory"), 80'000'000'000);
  EXPECT_EQ(parse_bytes("4096", "--device-memory"), 4096);
  for (const char* wrong : {"", "GiB", "much", "-1GiB", "24gib", "nan", "1e99"}) {
    EXPECT_THROW(parse_bytes(wrong, "--device-memory"), Error) << wrong;
  }
}

TEST(PlannedRouting, AddsUpToAllChoicesAndFollowsTheShares) {
  ops::plan_routing({{3, {0.5, 0.25, 0.25, 0}}});
  {
    const ops::PlannedLayer layer(3);
    EXPECT_EQ(ops::planned_counts(1000, 4), (std::vector<int64_t>{500, 250, 250, 0}));
    const std::vector<int64_t> odd = ops::planned_counts(7, 4);
    EXPECT_EQ(std::accumulate(odd.begin(), odd.end(), int64_t{0}), 7);
    // Every run of choices has nearly the shares, so that every rank's tokens do.
    const std::vector<int64_t> choices = ops::planned_choices(400, 4);
    for (int part = 0; part < 4; ++part) {
      const auto begin = choices.begin() + 100 * part;
      EXPECT_NEAR(std::count(begin, begin + 100, 0), 50, 2);
      EXPECT_EQ(std::count(begin, begin + 100, 3), 0);
    }
  }
  EXPECT_EQ(ops::planned_counts(8, 4), (std::vector<int64_t>{2, 2, 2, 2}));  // no layer: level
  ops::plan_routing({});
}

TEST(PlannedComm, ActsAsIfAllRanksDidAsThisOneDoes) {
  const RankLayout layout({.ep = 2}, 4);
  PlannedTraffic traffic;
  const auto world = make_planned_comm(layout, 1, /*peer_tokens=*/0.5, traffic);
  EXPECT_EQ(world->all_gather_text("host", "names"), std::vector<std::string>(4, "host"));
  const auto pair = world->subgroup(std::vector<int>{0, 1}, "ep");
  EXPECT_EQ(pair->rank(), 1);
  const std::vector<int64_t> ones = {1, 1}, sent = {10, 11, 20, 21};
  std::vector<int64_t> received(4);
  pair->all_to_all(sent.data(), ones, received.data(), ones, 16, "counts");
  EXPECT_EQ(received, (std::vector<int64_t>{20, 21, 20, 21}));
  // Of rows to dispatch the others have half as many.
  pair->all_to_all(sent.data(), ones, received.data(), ones, 16, "dispatch counts");
  EXPECT_EQ(received, (std::vector<int64_t>{10, 11, 20, 21}));
  traffic.bytes = 0;
  std::vector<float> sums(100, 1.0f);
  pair->all_reduce(std::span(sums), ReduceOp::kSum, "sums");
  EXPECT_EQ(traffic.bytes, 400);  // a ring of two sends half of it twice
  EXPECT_EQ(sums[0], 1.0f);
}

TEST(TokensAlike, IsByHowMuchMoreHalvesDifferThanTokensThatChooseAlone) {
  const std::vector<int64_t> even = {500, 500}, none = {0, 0};
  const auto scores = [&](std::vector<int64_t> counts, int64_t tokens) {
    ExpertScores scores({3}, 2, 1);
    scores.set_layer(3, counts, none, tokens);
    return scores;
  };
  EXPECT_EQ(tokens_alike(scores(even, 1000), scores({250, 250}, 500)), 1);
  // 300 of 500 and 200 of 500: 0.2 apart, where a deviation is sqrt(0.25 * (2 / 500)) = 0.0316.
  EXPECT_NEAR(tokens_alike(scores(even, 1000), scores({300, 200}, 500)), 40, 1e-9);
  EXPECT_EQ(tokens_alike(scores(even, 1000), scores({500, 0}, 500)), 64);  // at most
}

TEST(TensorsWithoutValues, CountAsIfTheyHadMemory) {
  ops::install_counting_allocator();
  ops::install_shape_allocator();
  const int64_t before = ops::memory_use(at::kCPU).allocated;
  {
    const ops::MemoryScope scope(ops::MemoryItem::kLogits);
    const at::Tensor huge =
        at::empty({int64_t{1} << 40}, at::TensorOptions().dtype(at::kFloat).device(at::kMeta));
    EXPECT_TRUE(ops::is_without_values(huge.data_ptr()));
    EXPECT_EQ(ops::memory_use(at::kCPU).allocated - before, int64_t{1} << 42);
    EXPECT_GE(ops::items_of_peak()[static_cast<size_t>(ops::MemoryItem::kLogits)],
              int64_t{1} << 42);
  }
  EXPECT_EQ(ops::memory_use(at::kCPU).allocated, before);
  EXPECT_GE(ops::memory_use(at::kCPU).peak - before, int64_t{1} << 42);
  ops::reset_peak();
  EXPECT_EQ(ops::memory_use(at::kCPU).peak, before);
}

}  // namespace
}  // namespace sutor
