// A token's rows are summed in the order of k by every dispatcher, so that what comes back has the
// same bits whichever is used. The rows of experts are made up: of a token and an expert, of sizes
// so different that another order gives another sum.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "layers/moe/dispatch_rows.h"
#include "layers/moe/token_dispatcher.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

constexpr int kLayer = 3, kExperts = 8;
constexpr int64_t kTopK = 4, kHidden = 3;

// Token t of rank r is number 100 * r + t; its experts are different ones, in no order.
at::Tensor choices(int64_t tokens, int rank) {
  at::Tensor idx = at::empty({tokens, kTopK}, at::kLong);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t k = 0; k < kTopK; ++k) idx[t][k] = (5 * t + 3 * k + 2 * rank) % kExperts;
  }
  return idx;
}

at::Tensor numbers(int64_t tokens, int rank) {
  return (at::arange(tokens) + 100 * rank).to(at::kFloat).unsqueeze(1).repeat({1, kHidden});
}

float made_up(int64_t number, int64_t expert, int64_t column) {
  const auto mixed = static_cast<double>((number * 31 + expert * 17 + column * 7) % 101 - 50);
  return static_cast<float>(mixed * std::pow(10.0, static_cast<double>(expert % 5) - 2) + 0.1);
}

struct Sums {
  at::Tensor rows;    // [T, H]
  at::Tensor values;  // [T, K]
  std::vector<int64_t> offsets;
};

// What `dispatcher` gives back to a rank, when the rows of expert e are made_up(.., e, ..) / `etp`.
Sums sums(const TokenDispatcher& dispatcher, const ExpertPlacement& placement, int ep_rank,
          int64_t tokens, int rank, at::ScalarType dtype, float etp = 1) {
  const std::vector<int> experts = placement.local_experts(kLayer, ep_rank);
  std::vector<int64_t> slot_of_local(static_cast<size_t>(placement.local_numbers()), -1);
  for (size_t i = 0; i < experts.size(); ++i) {
    slot_of_local[i] = static_cast<int64_t>(experts.size() - 1 - i);  // not the order of experts
  }
  const Dispatched in =
      dispatcher.dispatch(numbers(tokens, rank), choices(tokens, rank),
                          at::ones({tokens, kTopK}, at::kFloat), kLayer, slot_of_local);
  const at::Tensor source = in.source.index_select(0, in.row_index_R);
  at::Tensor rows = at::empty({source.size(0), kHidden}, at::kFloat);
  const std::vector<int64_t> offsets = host_longs(in.offsets);
  for (size_t slot = 0; slot + 1 < offsets.size(); ++slot) {
    for (int64_t r = offsets[slot]; r < offsets[slot + 1]; ++r) {
      const auto number = static_cast<int64_t>(source[r][0].item<float>());
      for (int64_t c = 0; c < kHidden; ++c) {
        rows[r][c] = made_up(number, experts[experts.size() - 1 - slot], c) / etp;
      }
    }
  }
  return {dispatcher.combine(rows.to(dtype), *in.handle),
          dispatcher.combine_weight_gradients(rows.select(1, 0).contiguous(), *in.handle), offsets};
}

// Over ep * etp ranks, rank r being number r / etp of ep.
void expect_the_same_bits(int ep, int etp, const ExpertRanks& expert_ranks = {}) {
  const ExpertPlacement placement(kExperts, ep, ep, expert_ranks), one(kExperts, 1);
  testing::run_ranks(ep * etp, [&](Comm& world) {
    const int rank = world.rank(), ep_rank = rank / etp;
    std::vector<int> of_ep, of_etp;
    for (int r = 0; r < ep * etp; ++r) {
      if (r % etp == rank % etp) of_ep.push_back(r);
      if (r / etp == ep_rank) of_etp.push_back(r);
    }
    const std::unique_ptr<Comm> over_ep = world.subgroup(of_ep, "ep");
    const std::unique_ptr<Comm> over_etp = world.subgroup(of_etp, "etp");
    const auto local = make_local_dispatcher();
    const auto all_to_all = make_all_to_all_dispatcher(*over_ep, *over_etp, placement);
    const auto all_gather = make_all_gather_dispatcher(world, ep_rank, placement);
    const int64_t tokens = 7 - 2 * rank;
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const auto parts = static_cast<float>(etp);
      const Sums a = sums(*all_to_all, placement, ep_rank, tokens, rank, dtype, parts);
      const Sums b = sums(*all_gather, placement, ep_rank, tokens, rank, dtype, parts);
      EXPECT_TRUE(at::equal(a.rows, b.rows)) << a.rows << b.rows;
      EXPECT_TRUE(at::equal(a.values, b.values));
      if (etp > 1) continue;  // the local one has nobody to divide experts with
      EXPECT_EQ(a.offsets, b.offsets) << "the ranks get rows of other tokens";
      const Sums wanted = sums(*local, one, 0, tokens, rank, dtype);
      EXPECT_TRUE(at::equal(a.rows, wanted.rows)) << a.rows << wanted.rows;
      EXPECT_TRUE(at::equal(a.values, wanted.values));
    }
  });
}

TEST(OrderOfSums, IsThatOfKOverTwoAndFourRanks) {
  expect_the_same_bits(2, 1);
  expect_the_same_bits(4, 1);
}

TEST(OrderOfSums, IsThatOfKWhereverExpertsAre) {
  expect_the_same_bits(4, 1, {{kLayer, {.rank_of = {3, 1, 2, 0, 1, 2, 0, 3}}}});
}

TEST(OrderOfSums, IsThatOfKWithReplicatedExperts) {
  LayerPlacement layer{.rank_of = {3, 1, 2, 0, 1, 2, 0, 3}, .replicated = {1, 2, 3}};
  layer.token_cost.assign(kExperts, 2.0);
  expect_the_same_bits(4, 1, {{kLayer, layer}});
}

// Of two parts of a row the sum has no order.
TEST(OrderOfSums, IsThatOfKWhereRanksDivideExperts) {
  expect_the_same_bits(1, 2);
  expect_the_same_bits(2, 2);
}

// The made-up rows do tell: the same rows in another order have other sums.
TEST(OrderOfSums, MattersForTheseRows) {
  int64_t different = 0;
  const at::Tensor idx = choices(7, 0);
  for (int64_t t = 0; t < 7; ++t) {
    float there = 0, back = 0;
    for (int64_t k = 0; k < kTopK; ++k) there += made_up(t, idx[t][k].item<int64_t>(), 0);
    for (int64_t k = kTopK; k-- > 0;) back += made_up(t, idx[t][k].item<int64_t>(), 0);
    different += there != back;
  }
  EXPECT_GT(different, 1);
}

}  // namespace
}  // namespace sutor
