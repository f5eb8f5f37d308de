#include "csrc/ops/shapes/library_scratch.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>

#include <memory>
#include <string_view>

namespace sutor::ops::shapes {
namespace {

// Measured with torch 2.9 on a CPU with AVX-512 and AMX: a few tens of KiB at least, a right
// operand that is not a transposed weight, and a left one that is transposed, packed anew, and
// results in fp32 where either is.
constexpr int64_t kLeast = 32 << 10;

bool is_transposed(const at::Tensor& matrix) {
  return matrix.stride(-2) == 1 && matrix.stride(-1) != 1;
}

int64_t scratch_of(const at::Tensor& left, const at::Tensor& right) {
  int64_t bytes = kLeast;
  const bool left_is_packed = is_transposed(left), right_is_packed = !is_transposed(right);
  const auto packed = [](const at::Tensor& operand) {
    return static_cast<int64_t>(operand.nbytes() + operand.nbytes() / 8);  // in whole blocks
  };
  if (left_is_packed) bytes += packed(left);
  if (right_is_packed) bytes += packed(right);
  if (left_is_packed || right_is_packed) bytes += 4 * left.numel() / left.size(-1) * right.size(-1);
  return bytes;
}

// Where the operands of a product stand among the inputs of an operator of torch; -1: no product.
int first_operand(std::string_view name) {
  if (name == "aten::mm" || name == "aten::bmm") return 0;
  if (name == "aten::addmm") return 1;
  return -1;
}

// Before the operator makes its result, which stands beside the scratch: counted with it here.
std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& function) {
  const int first = first_operand(function.name());
  if (first < 0) return nullptr;
  const at::DisableRecordFunctionGuard no_more;
  const auto inputs = function.inputs();
  if (inputs.size() < static_cast<size_t>(first) + 2) return nullptr;
  const c10::IValue &left = inputs[static_cast<size_t>(first)],
                    &right = inputs[static_cast<size_t>(first) + 1];
  if (!left.isTensor() || !right.isTensor()) return nullptr;
  const at::Tensor& a = left.toTensor();
  const at::Tensor& b = right.toTensor();
  if (!a.is_meta() || a.scalar_type() != at::kBFloat16 || a.numel() == 0) return nullptr;
  const int64_t result = 2 * a.numel() / a.size(-1) * b.size(-1);
  at::empty({scratch_of(a, b) + result}, a.options().dtype(at::kByte));
  return nullptr;
}

}  // namespace

LibraryScratch::LibraryScratch()
    : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(count).needsInputs(true).scopes(
          {at::RecordScope::FUNCTION}))) {}
LibraryScratch::~LibraryScratch() { at::removeCallback(handle_); }

}  // namespace sutor::ops::shapes
