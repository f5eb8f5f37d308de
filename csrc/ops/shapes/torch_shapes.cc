// torch's own operators on tensors without values that the C++ library of torch lacks, where its
// Python half has them: registered for the device meta. Shapes and dtypes alone.
#include <ATen/ExpandUtils.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "csrc/ops/shapes/shapes.h"

namespace sutor::ops::shapes {
namespace {

at::Tensor index_select(const at::Tensor& self, int64_t dim, const at::Tensor& index) {
  std::vector<int64_t> sizes = self.sizes().vec();
  if (!sizes.empty()) sizes[static_cast<size_t>(dim < 0 ? dim + self.dim() : dim)] = index.numel();
  return at::empty(sizes, self.options());
}

at::Tensor embedding_dense_backward(const at::Tensor& grad, const at::Tensor&, c10::SymInt weights,
                                    c10::SymInt, bool) {
  return at::empty({weights.expect_int(), grad.size(-1)}, grad.options());
}

void fused_adamw_(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                  at::TensorList, double, double, double, double, double, bool, bool,
                  const std::optional<at::Tensor>&, const std::optional<at::Tensor>&) {}

at::Tensor& logical_and_out(const at::Tensor& self, const at::Tensor& other, at::Tensor& out) {
  out.resize_(at::infer_size(self.sizes(), other.sizes()));
  return out;
}

at::Tensor where(const at::Tensor& condition, const at::Tensor& self, const at::Tensor& other) {
  const auto sizes = at::infer_size(at::infer_size(condition.sizes(), self.sizes()), other.sizes());
  return at::empty(sizes, (self.dim() > 0 ? self : other).options());
}

}  // namespace

void register_torch_shapes() {
  static const torch::Library library = [] {
    torch::Library lib(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
    lib.impl("index_select", index_select);
    lib.impl("embedding_dense_backward", embedding_dense_backward);
    lib.impl("_fused_adamw_", fused_adamw_);
    lib.impl("logical_and.out", logical_and_out);
    lib.impl("where.self", where);
    return lib;
  }();
}

}  // namespace sutor::ops::shapes
