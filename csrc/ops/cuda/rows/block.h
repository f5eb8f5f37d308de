// One source, two compilers: a row kernel is written over a Block, which is a block of threads on a
// GPU and a plain loop on the host, where tests run the same source. Free of torch and of CUDA's
// headers. What a Block has:
//   each(n, f)      f(i) for every i in [0, n); the f(i) write to different places
//   sum<S>(n, f)    the sum of f(i) in S, at every thread, in an order that depends on n alone
//   max(n, f)       the largest f(i), at every thread; -infinity where n is 0
//   once(f)         f() on one thread
// sum() and max() are barriers: what any thread read or wrote before them comes before what any
// thread does after them. All threads of a block call them together.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/ops/device/host_device.h"

namespace sutor::ops::cuda {

struct HostBlock {
  template <typename F>
  void each(int64_t n, const F& f) const {
    for (int64_t i = 0; i < n; ++i) f(i);
  }
  template <typename S, typename F>
  S sum(int64_t n, const F& f) const {
    S total = 0;
    for (int64_t i = 0; i < n; ++i) total += static_cast<S>(f(i));
    return total;
  }
  template <typename F>
  float max(int64_t n, const F& f) const {
    float top = -INFINITY;
    for (int64_t i = 0; i < n; ++i) top = std::fmax(top, f(i));
    return top;
  }
  template <typename F>
  void once(const F& f) const {
    f();
  }
};

#ifdef __CUDACC__
// Blocks of one axis whose number of threads is a multiple of a warp's.
struct CudaBlock {
  static constexpr int kMostWarps = 32;
  double* shared;  // [kMostWarps], in shared memory

  template <typename F>
  __device__ void each(int64_t n, const F& f) const {
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) f(i);
  }
  template <typename S, typename F>
  __device__ S sum(int64_t n, const F& f) const {
    S own = 0;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) own += static_cast<S>(f(i));
    return of_all(own, S{0}, [](S a, S b) { return a + b; });
  }
  template <typename F>
  __device__ float max(int64_t n, const F& f) const {
    float own = -INFINITY;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) own = fmaxf(own, f(i));
    return of_all(own, -INFINITY, [](float a, float b) { return fmaxf(a, b); });
  }
  template <typename F>
  __device__ void once(const F& f) const {
    if (threadIdx.x == 0) f();
  }

 private:
  // Within each warp first, then over the warps in their order: every thread gets the same bits.
  template <typename S, typename Join>
  __device__ S of_all(S own, S none, const Join& join) const {
    for (int distance = 16; distance > 0; distance /= 2) {
      own = join(own, __shfl_xor_sync(0xffffffffu, own, distance));
    }
    S* of_warps = reinterpret_cast<S*>(shared);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = own;
    __syncthreads();
    S all = none;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) all = join(all, of_warps[warp]);
    __syncthreads();
    return all;
  }
};
#endif

}  // namespace sutor::ops::cuda
