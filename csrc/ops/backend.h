// How an operator finds its implementation. An operator is a function on tensors: its header says
// what it computes, csrc/ops/cpu/ has it for host memory and csrc/ops/cuda/ for a GPU, in files of
// the operator's name. The header picks between them by the device of the tensors. A build without
// CUDA has no second half, and nothing in it names one.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>

namespace sutor::ops {

#if SUTOR_WITH_CUDA
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif

// Whether an operator's tensors are on a GPU; else they are in memory that the CPU reads, which is
// also what a device of the tests has. All must be on one device: throws otherwise. Undefined
// tensors are of any.
bool is_on_cuda(std::initializer_list<const at::Tensor*> tensors);

}  // namespace sutor::ops
