// Between torch's tensors on a GPU and the launchers of csrc/ops/cuda/kernels/.
#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/types.h>

#include <type_traits>

#include "csrc/base/error.h"
#include "csrc/ops/cuda/rows/number.h"

namespace sutor::ops::cuda {

// Null of an undefined tensor.
template <typename T>
T* data(const at::Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  if constexpr (std::is_same_v<T, Bf16>) {
    return reinterpret_cast<Bf16*>(tensor.data_ptr<at::BFloat16>());
  } else {
    return tensor.data_ptr<T>();
  }
}

// Calls f(T{}) with T = float or Bf16 by the tensor's dtype.
template <typename F>
void dispatch_dtype(at::ScalarType dtype, F&& f) {
  if (dtype == at::kFloat) {
    f(float{});
  } else {
    SUTOR_ASSERT(dtype == at::kBFloat16);
    f(Bf16{});
  }
}

// Calls launch(stream) with torch's current stream and throws if a kernel could not be started.
template <typename Launch>
void on_stream(const Launch& launch) {
  launch(c10::cuda::getCurrentCUDAStream().stream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace sutor::ops::cuda
