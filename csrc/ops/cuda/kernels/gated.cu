#include "csrc/ops/cuda/kernels/gated.h"

#include "csrc/ops/cuda/kernels/row_block.cuh"
#include "csrc/ops/cuda/rows/gated_row.h"

namespace sutor::ops::cuda {
namespace {

constexpr int64_t kElements = 2048;  // of a block of the elementwise kernels

__device__ int64_t elements_of_block(int64_t count) {
  const int64_t left = count - blockIdx.x * kElements;
  return left < kElements ? left : kElements;
}

template <typename T>
__global__ void swiglu_kernel(const T* gate, const T* up, T* out, int64_t count) {
  const int64_t first = blockIdx.x * kElements;
  gated_row(CudaBlock{nullptr}, Swiglu{}, gate + first, up + first, 1.0f, out + first,
            elements_of_block(count));
}

template <typename T>
__global__ void swiglu_gradients_kernel(const T* gate, const T* up, const T* d_out, T* d_gate,
                                        T* d_up, int64_t count) {
  __shared__ double shared[CudaBlock::kMostWarps];
  const int64_t first = blockIdx.x * kElements;
  const GatedGradientRow<T> to{.gate = d_gate + first, .up = d_up + first};
  gated_gradient_row(CudaBlock{shared}, Swiglu{}, gate + first, up + first, 1.0f, d_out + first, to,
                     elements_of_block(count));
}

template <typename Act, typename T>
__global__ void gated_kernel(Act act, const T* gate_up, const float* weights, T* out,
                             int64_t width) {
  const int64_t row = blockIdx.x;
  const T* gate = gate_up + row * 2 * width;
  gated_row(CudaBlock{nullptr}, act, gate, gate + width, weights[row], out + row * width, width);
}

template <typename Act, typename T>
__global__ void gated_gradients_kernel(Act act, const T* gate_up, const float* weights, T* d_out,
                                       GatedGradients<T> all, int64_t width) {
  __shared__ double shared[CudaBlock::kMostWarps];
  const int64_t row = blockIdx.x;
  if (row >= *all.end) return;
  const T* gate = gate_up + row * 2 * width;
  GatedGradientRow<T> to;
  if (all.d_gate_up != nullptr) {
    to.gate = all.d_gate_up + row * 2 * width;
    to.up = to.gate + width;
  }
  if (all.d_weights != nullptr) to.weight = all.d_weights + row;
  if (all.out_end != nullptr && row < *all.out_end) to.out = d_out + row * width;
  gated_gradient_row(CudaBlock{shared}, act, gate, gate + width, weights[row], d_out + row * width,
                     to, width);
}

template <typename Use>
void with_activation(const GatedActivation& act, const Use& use) {
  if (act.is_swiglu()) {
    use(Swiglu{});
  } else {
    use(ClampedGate{act.alpha, act.limit, act.up_offset});
  }
}

}  // namespace

template <typename T>
void launch_swiglu(const T* gate, const T* up, T* out, int64_t count, cudaStream_t stream) {
  if (count == 0) return;
  swiglu_kernel<<<blocks_for(count, kElements), 256, 0, stream>>>(gate, up, out, count);
}

template <typename T>
void launch_swiglu_gradients(const T* gate, const T* up, const T* d_out, T* d_gate, T* d_up,
                             int64_t count, cudaStream_t stream) {
  if (count == 0) return;
  swiglu_gradients_kernel<<<blocks_for(count, kElements), 256, 0, stream>>>(gate, up, d_out, d_gate,
                                                                            d_up, count);
}

template <typename T>
void launch_gated(const GatedActivation& act, const T* gate_up, const float* weights, T* out,
                  int64_t rows, int64_t width, cudaStream_t stream) {
  if (rows == 0) return;
  with_activation(act, [&](auto f) {
    gated_kernel<<<rows, threads_for(width), 0, stream>>>(f, gate_up, weights, out, width);
  });
}

template <typename T>
void launch_gated_gradients(const GatedActivation& act, const T* gate_up, const float* weights,
                            T* d_out, const GatedGradients<T>& to, int64_t rows, int64_t width,
                            cudaStream_t stream) {
  if (rows == 0) return;
  with_activation(act, [&](auto f) {
    gated_gradients_kernel<<<rows, threads_for(width), 0, stream>>>(f, gate_up, weights, d_out, to,
                                                                    width);
  });
}

#define SUTOR_INSTANTIATE(T)                                                                       \
  template void launch_swiglu(const T*, const T*, T*, int64_t, cudaStream_t);                      \
  template void launch_swiglu_gradients(const T*, const T*, const T*, T*, T*, int64_t,             \
                                        cudaStream_t);                                             \
  template void launch_gated(const GatedActivation&, const T*, const float*, T*, int64_t, int64_t, \
                             cudaStream_t);                                                        \
  template void launch_gated_gradients(const GatedActivation&, const T*, const float*, T*,         \
                                       const GatedGradients<T>&, int64_t, int64_t, cudaStream_t)
SUTOR_INSTANTIATE(float);
SUTOR_INSTANTIATE(Bf16);

}  // namespace sutor::ops::cuda
