// Every dispatcher beside the plain form y[t] = sum over k of w[t, k] * M[e(t, k)] x[t], in double
// precision, and beside autograd's gradients of it. An expert is a matrix; ranks are threads.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <mutex>
#include <numeric>

#include "layers/moe/dispatch_rows.h"
#include "layers/moe/token_dispatcher.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

using testing::run_ranks;

constexpr int kLayer = 3, kExperts = 8;
constexpr int64_t kHidden = 5;

enum class Kind { kLocal, kAllToAll, kAllGather };

// How a layer's experts lie on ranks: rank r is number r % etp of etp and r / etp of ep.
struct Spread {
  const char* name;
  Kind kind;
  int ep = 1, etp = 1;
  ExpertRanks expert_ranks = {};  // none: contiguous
  int ranks() const { return ep * etp; }
};

// Experts 0 and 6 on both ranks.
ExpertRanks replicas_on_two() {
  LayerPlacement layer{.rank_of = {0, 1, 0, 1, 1, 0, 1, 0}, .replicated = {0, 6}};
  layer.token_cost.assign(kExperts, 2.0);
  return {{kLayer, layer}};
}

ExpertRanks replicas_on_four() {
  LayerPlacement layer{.rank_of = {3, 1, 2, 0, 1, 2, 0, 3}, .replicated = {1, 2, 3}};
  layer.token_cost = {2, 2, 2, 2, 3, 2, 2, 3};
  return {{kLayer, layer}};
}

std::vector<Spread> spreads() {
  const ExpertRanks permuted = {{kLayer, {.rank_of = {3, 1, 2, 0, 1, 2, 0, 3}}}};
  return {{"Local", Kind::kLocal},
          {"AllToAllOverTwo", Kind::kAllToAll, 2},
          {"AllToAllOverFour", Kind::kAllToAll, 4},
          {"AllToAllPermuted", Kind::kAllToAll, 4, 1, permuted},
          {"AllToAllDividedExperts", Kind::kAllToAll, 1, 2},
          {"AllToAllOverTwoDivided", Kind::kAllToAll, 2, 2},
          {"AllToAllReplicasOnTwo", Kind::kAllToAll, 2, 1, replicas_on_two()},
          {"AllToAllReplicasOnFour", Kind::kAllToAll, 4, 1, replicas_on_four()},
          {"AllToAllReplicasDivided", Kind::kAllToAll, 2, 2, replicas_on_two()},
          {"AllGatherOverTwo", Kind::kAllGather, 2},
          {"AllGatherPermuted", Kind::kAllGather, 4, 1, permuted},
          {"AllGatherOverTwoDivided", Kind::kAllGather, 2, 2}};
}

// The tokens of all ranks, those of rank 0 first.
struct Problem {
  std::vector<int64_t> tokens;  // of each rank
  at::Tensor x, dy;             // [T, H]
  at::Tensor topk_idx;          // [T, K]
  at::Tensor topk_weights;      // [T, K]
  at::Tensor matrices;          // [E, H, H]

  int64_t first(int rank) const {
    return std::accumulate(tokens.begin(), tokens.begin() + rank, int64_t{0});
  }
  at::Tensor of_rank(const at::Tensor& all, int rank) const {
    return all.narrow(0, first(rank), tokens[rank]).contiguous();
  }
};

struct Result {
  at::Tensor y, dx;  // [T, H]
  at::Tensor dw;     // [T, K], gradient of the routing weights
};

Result plain(const Problem& problem) {
  const at::Tensor x = problem.x.to(at::kDouble).requires_grad_(true);
  const at::Tensor w = problem.topk_weights.to(at::kDouble).requires_grad_(true);
  const at::Tensor matrices = problem.matrices.to(at::kDouble);
  at::Tensor y = at::zeros_like(x);
  std::vector<at::Tensor> rows;
  for (int64_t t = 0; t < x.size(0); ++t) {
    at::Tensor sum = at::zeros({kHidden}, at::kDouble);
    for (int64_t k = 0; k < w.size(1); ++k) {
      const auto expert = problem.topk_idx[t][k].item<int64_t>();
      sum = sum + w[t][k] * at::mv(matrices[expert], x[t]);
    }
    rows.push_back(sum);
  }
  if (rows.empty()) return {x.detach(), x.detach(), w.detach()};
  y = at::stack(rows);
  const auto grads = torch::autograd::grad({(y * problem.dy.to(at::kDouble)).sum()}, {x, w});
  return {y.detach(), grads[0], grads[1]};
}

// The local numbers of a rank in an order of slots that is not theirs; -1 for those not in use.
std::vector<int64_t> mixed_slots(const ExpertPlacement& placement, int ep_rank) {
  const auto used = static_cast<int64_t>(placement.local_experts(kLayer, ep_rank).size());
  std::vector<int64_t> slot_of_local(static_cast<size_t>(placement.local_numbers()), -1);
  for (int64_t local = 0; local < used; ++local) slot_of_local[local] = used - 1 - local;
  std::swap(slot_of_local[0], slot_of_local[static_cast<size_t>(used / 2)]);
  return slot_of_local;
}

// What stands between dispatch and combine on a rank: its experts, or its shard of each.
class RankExperts {
 public:
  RankExperts(const Problem& problem, const Spread& spread, const ExpertPlacement& placement,
              int rank)
      : slot_of_local_(mixed_slots(placement, rank / spread.etp)) {
    const std::vector<int> experts = placement.local_experts(kLayer, rank / spread.etp);
    expert_of_slot_.resize(experts.size());
    for (size_t local = 0; local < experts.size(); ++local) {
      expert_of_slot_[slot_of_local_[local]] = experts[local];
    }
    // A shard is some of the columns; the shards of all ranks of etp add up to the matrix.
    const int64_t shard = rank % spread.etp;
    const int64_t begin = kHidden * shard / spread.etp, end = kHidden * (shard + 1) / spread.etp;
    shards_ = at::zeros_like(problem.matrices);
    shards_.narrow(2, begin, end - begin).copy_(problem.matrices.narrow(2, begin, end - begin));
  }

  const std::vector<int64_t>& slot_of_local() const { return slot_of_local_; }
  int expert_of_slot(size_t slot) const { return expert_of_slot_[slot]; }

  // rows [R, H] in slot order -> M rows, or M^T rows.
  at::Tensor apply(const at::Tensor& rows, const Dispatched& in, bool transposed) const {
    at::Tensor out = at::empty_like(rows);
    const std::vector<int64_t> offsets = host_longs(in.offsets);
    for (size_t slot = 0; slot + 1 < offsets.size(); ++slot) {
      const int64_t begin = offsets[slot], count = offsets[slot + 1] - begin;
      if (count == 0) continue;
      const at::Tensor matrix = shards_[expert_of_slot_[slot]];
      out.narrow(0, begin, count)
          .copy_(at::mm(rows.narrow(0, begin, count), transposed ? matrix : matrix.t()));
    }
    return out;
  }

 private:
  std::vector<int64_t> slot_of_local_;
  std::vector<int> expert_of_slot_;
  at::Tensor shards_;
};

// What the ranks found, put together; and how many rows each got of each expert.
struct Found : Result {
  std::vector<std::vector<int64_t>> rows;  // [ranks][experts]
};

// A dispatcher of a rank and the communicators it needs.
struct OwnDispatcher {
  std::unique_ptr<Comm> ep, etp;
  std::unique_ptr<TokenDispatcher> dispatcher;

  OwnDispatcher(const Spread& spread, const ExpertPlacement& placement, Comm& world) {
    const int ep_rank = world.rank() / spread.etp, etp_rank = world.rank() % spread.etp;
    std::vector<int> of_ep, of_etp;
    for (int r = 0; r < spread.ranks(); ++r) {
      if (r % spread.etp == etp_rank) of_ep.push_back(r);
      if (r / spread.etp == ep_rank) of_etp.push_back(r);
    }
    ep = world.subgroup(of_ep, "ep");
    etp = world.subgroup(of_etp, "etp");
    dispatcher = spread.kind == Kind::kLocal ? make_local_dispatcher()
                 : spread.kind == Kind::kAllToAll
                     ? make_all_to_all_dispatcher(*ep, *etp, placement)
                     : make_all_gather_dispatcher(world, ep_rank, placement);
  }
};

Found dispatched(const Problem& problem, const Spread& spread) {
  const ExpertPlacement placement(kExperts, spread.ep, spread.ep, spread.expert_ranks);
  std::vector<Result> results(static_cast<size_t>(spread.ranks()));
  Found found;
  found.rows.assign(results.size(), std::vector<int64_t>(kExperts, 0));
  run_ranks(spread.ranks(), [&](Comm& world) {
    const int rank = world.rank();
    const OwnDispatcher own(spread, placement, world);
    const TokenDispatcher& dispatcher = *own.dispatcher;
    const RankExperts experts(problem, spread, placement, rank);
    const at::Tensor x = problem.of_rank(problem.x, rank);
    const Dispatched in = dispatcher.dispatch(x, problem.of_rank(problem.topk_idx, rank),
                                              problem.of_rank(problem.topk_weights, rank), kLayer,
                                              experts.slot_of_local());
    const std::vector<int64_t> offsets = host_longs(in.offsets);
    for (size_t slot = 0; slot + 1 < offsets.size(); ++slot) {
      const int64_t count = offsets[slot + 1] - offsets[slot];
      if (count > 0) found.rows[rank][experts.expert_of_slot(slot)] = count;
    }
    const DispatchHandle& handle = *in.handle;
    const at::Tensor w = in.weights_R.unsqueeze(1);
    const at::Tensor outputs =
        experts.apply(in.source.index_select(0, in.row_index_R), in, /*transposed=*/false);
    const at::Tensor dy_rows =
        dispatcher.dispatch_gradients(problem.of_rank(problem.dy, rank), handle)
            .index_select(0, in.row_index_R);
    results[rank].y = dispatcher.combine(outputs * w, handle);
    results[rank].dx =
        dispatcher.combine(experts.apply(dy_rows, in, /*transposed=*/true) * w, handle);
    results[rank].dw = dispatcher.combine_weight_gradients((dy_rows * outputs).sum(1), handle);
  });
  const auto joined = [&](at::Tensor Result::*part) {
    std::vector<at::Tensor> parts;
    for (const Result& result : results) parts.push_back(result.*part);
    return at::cat(parts);
  };
  static_cast<Result&>(found) = {joined(&Result::y), joined(&Result::dx), joined(&Result::dw)};
  return found;
}

void expect_near(const at::Tensor& ours, const at::Tensor& theirs, const char* what) {
  ASSERT_EQ(ours.sizes(), theirs.sizes()) << what;
  if (ours.numel() == 0) return;
  EXPECT_LT((ours.to(at::kDouble) - theirs).abs().max().item<double>(), 1e-5) << what;
}

// `tokens` of each rank; topk_idx is drawn, different experts a token.
Problem problem_of(std::vector<int64_t> tokens, int64_t top_k) {
  Problem problem;
  const int64_t total = std::accumulate(tokens.begin(), tokens.end(), int64_t{0});
  problem.tokens = std::move(tokens);
  problem.x = at::randn({total, kHidden});
  problem.dy = at::randn({total, kHidden});
  problem.topk_weights = at::rand({total, top_k}) + 0.1;
  problem.topk_idx = std::get<1>(at::topk(at::rand({total, kExperts}), top_k, 1));
  problem.matrices = at::randn({kExperts, kHidden, kHidden});
  return problem;
}

class Dispatcher : public ::testing::TestWithParam<Spread> {
 protected:
  void SetUp() override { at::manual_seed(17); }
  int ranks() const { return GetParam().ranks(); }
  // Uneven, none of them 0.
  std::vector<int64_t> some_tokens() const {
    std::vector<int64_t> tokens;
    for (int r = 0; r < ranks(); ++r) tokens.push_back(9 - 2 * r);
    return tokens;
  }
  void expect_plain(const Problem& problem) const {
    const Found found = dispatched(problem, GetParam());
    const Result wanted = plain(problem);
    expect_near(found.y, wanted.y, "y");
    expect_near(found.dx, wanted.dx, "dx");
    expect_near(found.dw, wanted.dw, "dw");
    expect_all_rows_once(problem, found);
  }
  // Of every expert the ranks that have it get all its rows, each row once, on all ranks of etp.
  void expect_all_rows_once(const Problem& problem, const Found& found) const {
    const at::Tensor counts = at::bincount(problem.topk_idx.reshape({-1}), {}, kExperts);
    for (int e = 0; e < kExperts; ++e) {
      int64_t rows = 0;
      for (const auto& of_rank : found.rows) rows += of_rank[e];
      EXPECT_EQ(rows, counts[e].item<int64_t>() * GetParam().etp) << "expert " << e;
    }
  }
};

TEST_P(Dispatcher, ComputesThePlainFormAndItsGradients) {
  for (const int64_t top_k : {1, 3, kExperts}) expect_plain(problem_of(some_tokens(), top_k));
}

TEST_P(Dispatcher, WithIdentityExpertsTheOutputIsTheWeightedToken) {
  Problem problem = problem_of(some_tokens(), 3);
  problem.matrices = at::eye(kHidden).repeat({kExperts, 1, 1});
  const at::Tensor wanted = problem.x * problem.topk_weights.sum(1, /*keepdim=*/true);
  expect_near(dispatched(problem, GetParam()).y, wanted.to(at::kDouble), "y");
}

TEST_P(Dispatcher, OneExpertMayGetAllTokens) {
  for (int64_t expert = 0; expert < kExperts; ++expert) {
    Problem problem = problem_of(some_tokens(), 1);
    problem.topk_idx.fill_(expert);
    expect_plain(problem);
  }
}

TEST_P(Dispatcher, ExpertsMayStarve) {
  // Experts 2 and 5 get all tokens, in either order: the others none.
  Problem problem = problem_of(some_tokens(), 2);
  const at::Tensor flip = at::arange(problem.x.size(0)).remainder(2);
  problem.topk_idx = at::stack({flip * 3 + 2, flip * -3 + 5}, 1);
  expect_plain(problem);
}

TEST_P(Dispatcher, RanksMayHaveNoTokens) {
  for (int busy = 0; busy < ranks(); ++busy) {
    std::vector<int64_t> tokens(static_cast<size_t>(ranks()), 0);
    tokens[busy] = 6;
    expect_plain(problem_of(tokens, 3));
  }
  expect_plain(problem_of(std::vector<int64_t>(static_cast<size_t>(ranks()), 0), 3));
}

// In bf16 a sum of 256 and twice 1 stays 256: the rows of a token are added in fp32.
TEST_P(Dispatcher, RowsOfATokenAreAddedInFp32AndRoundedOnce) {
  Problem problem = problem_of(some_tokens(), 3);
  problem.x = at::ones_like(problem.x).to(at::kBFloat16);
  problem.dy = problem.dy.to(at::kBFloat16);
  problem.topk_weights = at::tensor({256.f, 1.f, 1.f}).expand_as(problem.topk_idx).contiguous();
  problem.matrices = at::ones({kExperts, kHidden, kHidden}).to(at::kBFloat16);
  const ExpertPlacement placement(kExperts, GetParam().ep, GetParam().ep, GetParam().expert_ranks);
  run_ranks(ranks(), [&](Comm& world) {
    const OwnDispatcher own(GetParam(), placement, world);
    const Dispatched in = own.dispatcher->dispatch(
        problem.of_rank(problem.x, world.rank()), problem.of_rank(problem.topk_idx, world.rank()),
        problem.of_rank(problem.topk_weights, world.rank()), kLayer,
        mixed_slots(placement, world.rank() / GetParam().etp));
    // The ranks of etp add up their equal parts.
    const at::Tensor rows = (in.weights_R / GetParam().etp).to(at::kBFloat16);
    const at::Tensor y =
        own.dispatcher->combine(rows.unsqueeze(1).expand({-1, kHidden}).contiguous(), *in.handle);
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    EXPECT_TRUE((y == 258).all().item<bool>()) << y;
  });
}

TEST_P(Dispatcher, AnotherTensorTakesTheSameWay) {
  Problem problem = problem_of(some_tokens(), 3);
  const ExpertPlacement placement(kExperts, GetParam().ep, GetParam().ep, GetParam().expert_ranks);
  run_ranks(ranks(), [&](Comm& world) {
    const OwnDispatcher own(GetParam(), placement, world);
    const at::Tensor x = problem.of_rank(problem.x, world.rank());
    const Dispatched in =
        own.dispatcher->dispatch(x, problem.of_rank(problem.topk_idx, world.rank()),
                                 problem.of_rank(problem.topk_weights, world.rank()), kLayer,
                                 mixed_slots(placement, world.rank() / GetParam().etp));
    EXPECT_TRUE(at::equal(own.dispatcher->dispatch_gradients(x, *in.handle), in.source));
    EXPECT_TRUE(at::equal(own.dispatcher->dispatch_gradients(x * 2, *in.handle), in.source * 2));
    // The weights that went out with the rows come back to their places.
    const at::Tensor back =
        own.dispatcher->combine_weight_gradients(in.weights_R / GetParam().etp, *in.handle);
    EXPECT_TRUE(at::allclose(back, problem.of_rank(problem.topk_weights, world.rank())));
  });
}

INSTANTIATE_TEST_SUITE_P(Spreads, Dispatcher, ::testing::ValuesIn(spreads()),
                         [](const auto& info) { return info.param.name; });

std::vector<int64_t> rows_of_ranks(const Problem& problem, const Spread& spread) {
  std::vector<int64_t> sums;
  for (const auto& of_rank : dispatched(problem, spread).rows) {
    sums.push_back(std::accumulate(of_rank.begin(), of_rank.end(), int64_t{0}));
  }
  return sums;
}

TEST(ReplicatedExperts, TakeTheirTokensWhereverThereIsRoom) {
  at::manual_seed(19);
  Problem problem = problem_of({40, 0}, 1);
  problem.topk_idx.fill_(6);
  EXPECT_EQ(rows_of_ranks(problem, {"", Kind::kAllToAll, 2, 1, replicas_on_two()}),
            (std::vector<int64_t>{20, 20}));
  EXPECT_EQ(rows_of_ranks(problem, {"", Kind::kAllToAll, 2}), (std::vector<int64_t>{0, 40}));
}

TEST(ReplicatedExperts, LevelWhatTheOthersLeaveUneven) {
  at::manual_seed(20);
  // 10 rows each of experts 2 and 5, which rank 0 alone has, and 30 of expert 0.
  Problem problem = problem_of({25, 25}, 1);
  problem.topk_idx.fill_(0);
  problem.topk_idx.narrow(0, 0, 10).fill_(2);
  problem.topk_idx.narrow(0, 30, 10).fill_(5);
  const std::vector<int64_t> rows =
      rows_of_ranks(problem, {"", Kind::kAllToAll, 2, 1, replicas_on_two()});
  EXPECT_NEAR(static_cast<double>(rows[0]), 25, 1);  // each source rank rounds its own share
  EXPECT_EQ(rows[0] + rows[1], 50);
}

TEST(LocalDispatcher, DoesNotCopyTheTokens) {
  at::manual_seed(21);
  const Problem problem = problem_of({7}, 2);
  const auto dispatcher = make_local_dispatcher();
  const Dispatched in = dispatcher->dispatch(problem.x, problem.topk_idx, problem.topk_weights,
                                             kLayer, LocalSlots({0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(in.source.data_ptr(), problem.x.data_ptr());
  EXPECT_EQ(dispatcher->dispatch_gradients(problem.dy, *in.handle).data_ptr(),
            problem.dy.data_ptr());
}

}  // namespace
}  // namespace sutor
