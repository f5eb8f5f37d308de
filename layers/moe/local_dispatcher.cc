// Dispatch where all experts of a layer are on this rank: only an order by slot.
#include <ATen/core/Tensor.h>
#include <ATen/ops/div.h>

#include "csrc/ops/row_order.h"
#include "csrc/ops/sum_rows.h"
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
                      const LocalSlots& slots) const override {
    auto handle = std::make_shared<LocalHandle>();
    handle->num_tokens = topk_idx.size(0);
    handle->top_k = topk_idx.size(1);
    const ops::RowOrder order =
        ops::order_by_slot(topk_idx.contiguous(), slots.on_device(), slots.count());
    handle->position_TK = order.position;
    Dispatched out;
    out.source = x;
    out.row_index_R = at::div(order.choice_R, handle->top_k, "floor");
    out.weights_R = gathered_rows(topk_weights.reshape({-1}), order.choice_R);
    out.offsets = order.offsets;
    out.handle = handle;
    return out;
  }
  at::Tensor dispatch_gradients(const at::Tensor& x, const DispatchHandle&) const override {
    return x;
  }
  at::Tensor combine(const at::Tensor& rows, const DispatchHandle& handle) const override {
    return ops::sum_rows(rows, own_handle(handle).position_TK, handle.num_tokens);
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
