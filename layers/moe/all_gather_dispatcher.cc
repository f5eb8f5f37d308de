// Dispatch by all-gather: every rank gets every row and works on those of its experts; results of
// all ranks are reduced and scattered. Plain, and the reference of the other dispatchers.
#include <numeric>

#include "csrc/ops/cpu/torch_ops.h"
#include "layers/moe/dispatch_rows.h"
#include "layers/parallel/row_collectives.h"

namespace sutor {
namespace {

struct AllGatherHandle final : DispatchHandle {
  std::vector<int64_t> tokens;  // of each rank
  at::Tensor choice_R;          // int64: number of (token, choice) among those of all ranks
};

class AllGatherDispatcher final : public TokenDispatcher {
 public:
  AllGatherDispatcher(Comm& ranks, int ep_rank, const ExpertPlacement& placement)
      : ranks_(ranks), ep_rank_(ep_rank), placement_(placement) {}

  Dispatched dispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                      const at::Tensor& topk_weights, int layer,
                      const std::vector<int64_t>& slot_of_local) const override {
    auto handle = std::make_shared<AllGatherHandle>();
    handle->num_tokens = topk_idx.size(0);
    handle->top_k = topk_idx.size(1);
    handle->tokens.assign(ranks_.size(), 0);
    handle->tokens[ranks_.rank()] = handle->num_tokens;
    ranks_.all_reduce(std::span(handle->tokens), ReduceOp::kSum, "dispatch counts");
    const at::Tensor idx = gather_rows(topk_idx, handle->tokens, ranks_, "dispatch choices");
    const at::Tensor weights =
        gather_rows(topk_weights, handle->tokens, ranks_, "dispatch weights");
    Dispatched out;
    out.handle = handle;
    out.offsets = take_own(idx, layer, slot_of_local, *handle);
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
    at::Tensor sums = at::zeros({total(own), rows.size(1)}, at::kFloat);
    sums.index_add_(0, own.row_index_R, rows.to(at::kFloat));
    return reduce_scatter_rows(sums, own.tokens, ranks_, "combine rows").to(rows.scalar_type());
  }

  at::Tensor combine_weight_gradients(const at::Tensor& values,
                                      const DispatchHandle& handle) const override {
    const AllGatherHandle& own = own_handle(handle);
    at::Tensor all = at::zeros({total(own) * own.top_k}, at::kFloat);
    all.index_copy_(0, own.choice_R, values);
    return reduce_scatter_rows(all.view({total(own), own.top_k}), own.tokens, ranks_,
                               "return weights");
  }

 private:
  static const AllGatherHandle& own_handle(const DispatchHandle& handle) {
    return static_cast<const AllGatherHandle&>(handle);
  }
  at::Tensor dispatch_rows(const at::Tensor& x, const AllGatherHandle& handle) const {
    return gather_rows(x, handle.tokens, ranks_, "dispatch rows");
  }
  static int64_t total(const AllGatherHandle& handle) {
    return std::accumulate(handle.tokens.begin(), handle.tokens.end(), int64_t{0});
  }

  // The choices that this rank's experts answer, in the order of slots; returns the slots' offsets.
  std::vector<int64_t> take_own(const at::Tensor& idx, int layer,
                                const std::vector<int64_t>& slot_of_local,
                                AllGatherHandle& handle) const {
    std::vector<std::vector<int64_t>> by_slot(slot_of_local.size());
    const int64_t* expert = idx.data_ptr<int64_t>();
    for (int64_t choice = 0; choice < idx.numel(); ++choice) {
      const int e = static_cast<int>(expert[choice]);
      if (placement_.ep_rank_of(layer, e) != ep_rank_) continue;
      by_slot[slot_of_local[placement_.local_id(layer, e)]].push_back(choice);
    }
    std::vector<int64_t> offsets = {0}, choices, tokens;
    for (const std::vector<int64_t>& slot : by_slot) {
      for (const int64_t choice : slot) {
        choices.push_back(choice);
        tokens.push_back(choice / handle.top_k);
      }
      offsets.push_back(static_cast<int64_t>(choices.size()));
    }
    handle.choice_R = at::tensor(choices, at::kLong);
    handle.row_index_R = at::tensor(tokens, at::kLong);
    return offsets;
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
