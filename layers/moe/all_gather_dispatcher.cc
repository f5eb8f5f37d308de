// Dispatch by all-gather: every rank gets every row and works on those of its experts; their
// results go back to the ranks of the tokens. Plain, and the reference of the other dispatchers.
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <numeric>

#include "csrc/ops/device/host_window.h"
#include "csrc/ops/shapes/planned_routing.h"
#include "csrc/ops/sum_rows.h"
#include "layers/moe/dispatch_rows.h"
#include "layers/moe/expert_destinations.h"
#include "layers/parallel/row_collectives.h"

namespace sutor {
namespace {

struct AllGatherHandle final : DispatchHandle {
  std::vector<int64_t> tokens;    // of each rank
  std::vector<int64_t> ep_ranks;  // of each rank; ranks of one divide the same experts between them
  at::Tensor choice_R;            // int64: number of (token, choice) among those of all ranks
  at::Tensor row_of_choice_R;     // int64: this rank's slot-sorted rows in the order of choices
  // Results to and from each rank, in the order of choices.
  std::vector<int64_t> send_rows, recv_rows;
  at::Tensor position_TK;  // int64: row of what is received that answers (token, choice)
};

class AllGatherDispatcher final : public TokenDispatcher {
 public:
  AllGatherDispatcher(Comm& ranks, int ep_rank, const ExpertPlacement& placement)
      : ranks_(ranks), ep_rank_(ep_rank), placement_(placement) {}

  Dispatched dispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                      const at::Tensor& topk_weights, int layer,
                      const LocalSlots& slots) const override {
    auto handle = std::make_shared<AllGatherHandle>();
    handle->num_tokens = topk_idx.size(0);
    handle->top_k = topk_idx.size(1);
    exchange_counts(*handle);
    const at::Tensor idx = gather_rows(topk_idx, handle->tokens, ranks_, "dispatch choices");
    const at::Tensor weights =
        gather_rows(topk_weights, handle->tokens, ranks_, "dispatch weights");
    Dispatched out;
    out.handle = handle;
    const std::vector<int64_t> choices =
        idx.is_meta() ? ops::planned_choices(idx.numel(), placement_.num_experts())
                      : host_longs(idx);
    take_own(choices, layer, slots, *handle, out, x.device());
    out.weights_R = gathered_rows(weights.reshape({-1}), handle->choice_R);
    out.source = dispatch_rows(x, *handle);
    return out;
  }

  at::Tensor dispatch_gradients(const at::Tensor& d_y,
                                const DispatchHandle& handle) const override {
    return dispatch_rows(d_y, own_handle(handle));
  }

  at::Tensor combine(const at::Tensor& rows, const DispatchHandle& handle) const override {
    const AllGatherHandle& own = own_handle(handle);
    return ops::sum_rows(back(rows, own, "combine rows"), own.position_TK, own.num_tokens);
  }

  at::Tensor combine_weight_gradients(const at::Tensor& values,
                                      const DispatchHandle& handle) const override {
    const AllGatherHandle& own = own_handle(handle);
    return gathered_rows(back(values, own, "return weights"), own.position_TK)
        .view({own.num_tokens, own.top_k});
  }

 private:
  static const AllGatherHandle& own_handle(const DispatchHandle& handle) {
    return static_cast<const AllGatherHandle&>(handle);
  }
  at::Tensor dispatch_rows(const at::Tensor& x, const AllGatherHandle& handle) const {
    return gather_rows(x, handle.tokens, ranks_, "dispatch rows");
  }

  // Fills tokens and ep_ranks.
  void exchange_counts(AllGatherHandle& handle) const {
    const auto ranks = static_cast<size_t>(ranks_.size());
    std::vector<int64_t> counts(2 * ranks, 0);
    counts[ranks_.rank()] = handle.num_tokens;
    counts[ranks + ranks_.rank()] = ep_rank_;
    ranks_.all_reduce(std::span(counts), ReduceOp::kSum, "dispatch counts");
    handle.tokens.assign(counts.begin(), counts.begin() + ranks_.size());
    handle.ep_ranks.assign(counts.begin() + ranks_.size(), counts.end());
  }

  // Finds the choices of this rank's experts, in the order of slots.
  void take_own(const std::vector<int64_t>& idx, int layer, const LocalSlots& slots,
                AllGatherHandle& handle, Dispatched& out, at::Device device) const {
    std::vector<std::vector<int64_t>> by_slot(static_cast<size_t>(slots.count()));
    const std::span experts(idx);
    const std::vector<int64_t> all = choices_by_expert(experts, placement_.num_experts());
    handle.send_rows.assign(ranks_.size(), 0);
    int64_t choice = 0;
    for (int source = 0; source < ranks_.size(); ++source) {
      const auto of_source = experts.subspan(
          static_cast<size_t>(choice), static_cast<size_t>(handle.tokens[source] * handle.top_k));
      ExpertDestinations destinations(placement_, layer,
                                      choices_by_expert(of_source, placement_.num_experts()), all);
      std::vector<int64_t> ep_rank_of_choice;
      for (const int64_t expert : of_source) {
        const int64_t place = destinations.take(static_cast<int>(expert));
        ep_rank_of_choice.push_back(place / placement_.local_numbers());
        if (ep_rank_of_choice.back() == ep_rank_) {
          by_slot[slots[place % placement_.local_numbers()]].push_back(choice);
          ++handle.send_rows[source];
        }
        ++choice;
      }
      if (source == ranks_.rank()) expect_results(ep_rank_of_choice, handle, device);
    }
    order_by_slot(by_slot, handle, out, device);
  }

  // Which results come from each rank, for the choices of this rank's tokens.
  void expect_results(const std::vector<int64_t>& ep_rank_of_choice, AllGatherHandle& handle,
                      at::Device device) const {
    std::vector<int64_t> next(static_cast<size_t>(placement_.ep()), -1);  // by ep rank
    int64_t begin = 0;
    handle.recv_rows.clear();
    for (const int64_t ep_rank : handle.ep_ranks) {
      handle.recv_rows.push_back(
          std::count(ep_rank_of_choice.begin(), ep_rank_of_choice.end(), ep_rank));
      if (next[ep_rank] < 0) next[ep_rank] = begin;  // the first of those that divide an expert
      begin += handle.recv_rows.back();
    }
    std::vector<int64_t> position;
    for (const int64_t ep_rank : ep_rank_of_choice) position.push_back(next[ep_rank]++);
    handle.position_TK = ops::longs_on(position, device);
  }

  static void order_by_slot(const std::vector<std::vector<int64_t>>& by_slot,
                            AllGatherHandle& handle, Dispatched& out, at::Device device) {
    std::vector<int64_t> offsets = {0}, choices, tokens;
    for (const std::vector<int64_t>& slot : by_slot) {
      for (const int64_t choice : slot) {
        choices.push_back(choice);
        tokens.push_back(choice / handle.top_k);
      }
      offsets.push_back(static_cast<int64_t>(choices.size()));
    }
    const at::Tensor choice_R = at::tensor(choices, at::kLong);
    handle.choice_R = ops::to_device(choice_R, device);
    handle.row_of_choice_R = ops::to_device(choice_R.argsort(), device);
    out.offsets = ops::longs_on(offsets, ops::table_device(device));
    out.row_index_R = ops::longs_on(tokens, device);
  }

  // Results in slot order -> the ranks that the tokens are of, in the order of choices. Where ranks
  // divide an expert, the sum of theirs stands in the rows of the first of them.
  at::Tensor back(const at::Tensor& rows, const AllGatherHandle& handle, const char* name) const {
    const at::Tensor received = exchanged_rows(gathered_rows(rows, handle.row_of_choice_R),
                                               handle.send_rows, handle.recv_rows, ranks_, name);
    if (placement_.ep() == ranks_.size()) return received;
    const at::Tensor sums = received.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    std::vector<int64_t> first(static_cast<size_t>(placement_.ep()), -1);  // by ep rank
    int64_t begin = 0;
    for (int r = 0; r < ranks_.size(); ++r) {
      int64_t& leader = first[handle.ep_ranks[r]];
      const int64_t count = handle.recv_rows[r];
      if (leader < 0) {
        leader = begin;
      } else {
        sums.narrow(0, leader, count).add_(sums.narrow(0, begin, count));
      }
      begin += count;
    }
    return sums.to(rows.scalar_type());
  }

  Comm& ranks_;
  int ep_rank_;
  const ExpertPlacement& placement_;
};

}  // namespace

std::unique_ptr<TokenDispatcher> make_all_gather_dispatcher(Comm& etp_ep, int ep_rank,
                                                            const ExpertPlacement& placement) {
  return std::make_unique<AllGatherDispatcher>(etp_ep, ep_rank, placement);
}

}  // namespace sutor
