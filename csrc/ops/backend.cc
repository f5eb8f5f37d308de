#include "csrc/ops/backend.h"

#include "csrc/base/error.h"

namespace sutor::ops {

bool is_on_cuda(std::initializer_list<const at::Tensor*> tensors) {
  const at::Tensor* first = nullptr;
  for (const at::Tensor* tensor : tensors) {
    // Tables that decide shapes have values also where the other tensors have none.
    if (!tensor->defined() || tensor->is_meta()) continue;
    if (first == nullptr) first = tensor;
    if (tensor->device() == first->device()) continue;
    internal_error(__FILE__, __LINE__, "the tensors of an operator are on one device");
  }
  return first != nullptr && first->is_cuda();
}

}  // namespace sutor::ops
