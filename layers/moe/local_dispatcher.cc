// Dispatch where all experts of a layer are on this rank: only an order by slot.
#include <torch/types.h>

#include <numeric>

#include "layers/moe/dispatch_rows.h"

namespace sutor {
namespace {

struct LocalHandle final : DispatchHandle {
  at::Tensor position_TK;  // int64: slot-sorted row that answers (token, choice)
};

class LocalDispatcher final : public TokenDispatcher {
 public:
  Dispatched dispatch(const at::Tensor& x, const at::Tensor& topk_idx,
                      const at::Tensor& topk_weights, int layer,
                      const std::vector<int64_t>& slot_of_local) const override {
    auto handle = std::make_shared<LocalHandle>();
    handle->num_tokens = topk_idx.size(0);
    handle->top_k = topk_idx.size(1);
    const int64_t rows = topk_idx.numel(), slots = static_cast<int64_t>(slot_of_local.size());
    const int64_t* expert = topk_idx.data_ptr<int64_t>();
    Dispatched out{x, at::empty({rows}, at::kFloat), std::vector<int64_t>(slots + 1, 0), handle};
    for (int64_t i = 0; i < rows; ++i) ++out.offsets[slot_of_local[expert[i]] + 1];
    std::partial_sum(out.offsets.begin(), out.offsets.end(), out.offsets.begin());
    std::vector<int64_t> next(out.offsets.begin(), out.offsets.end() - 1);
    handle->position_TK = empty_longs(rows);
    handle->row_index_R = empty_longs(rows);
    int64_t* position = handle->position_TK.data_ptr<int64_t>();
    int64_t* index = handle->row_index_R.data_ptr<int64_t>();
    float* weights = out.weights_R.data_ptr<float>();
    const float* given = topk_weights.data_ptr<float>();
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = next[slot_of_local[expert[i]]]++;
      position[i] = row;
      index[row] = i / handle->top_k;
      weights[row] = given[i];
    }
    return out;
  }
  at::Tensor dispatch_gradients(const at::Tensor& x, const DispatchHandle&) const override {
    return x;
  }
  at::Tensor combine(const at::Tensor& rows, const DispatchHandle& handle) const override {
    return summed_rows(rows, own_handle(handle).position_TK, handle.num_tokens);
  }
  at::Tensor combine_weight_gradients(const at::Tensor& values,
                                      const DispatchHandle& handle) const override {
    return gathered_rows(values, own_handle(handle).position_TK)
        .view({handle.num_tokens, handle.top_k});
  }

 private:
  static const LocalHandle& own_handle(const DispatchHandle& handle) {
    return static_cast<const LocalHandle&>(handle);
  }
};

}  // namespace

std::unique_ptr<TokenDispatcher> make_local_dispatcher() {
  return std::make_unique<LocalDispatcher>();
}

}  // namespace sutor
