// Grouped products in fp32, without tensor cores: 64 x 64 tiles, four by four sums a thread.
#include "csrc/ops/cuda/kernels/grouped_mm.cuh"

namespace sutor::ops::cuda {
namespace {

struct FloatTiles {
  using T = float;
  static constexpr int kTile = 64, kThreads = 256, kBlocks = 2;
  static constexpr int kDepth = 16, kSide = 4;  // sums of a thread, each way
  static constexpr int kAcross = kTile / kSide;
  static constexpr int kStride = kTile + kSide;  // of a row in shared memory
  static constexpr int kSharedBytes = 2 * kDepth * kStride * sizeof(float);

  // to[k][m] of a step; what does not exist becomes 0.
  template <bool kTurned>
  __device__ static void copy_step(const Operand<T>& operand, int k, int depth, float* to) {
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      // Neighbouring threads read neighbouring words.
      const int at_depth = kTurned ? i / kTile : i % kDepth;
      const int along = kTurned ? i % kTile : i / kDepth;
      const bool exists = along < operand.extent && k + at_depth < depth;
      const int64_t at =
          kTurned ? (k + at_depth) * operand.stride + along : along * operand.stride + k + at_depth;
      to[at_depth * kStride + along] = exists ? operand.data[at] : 0.0f;
    }
  }

  template <bool kTurnA, bool kTurnB, bool kAligned, typename Out>
  __device__ static void multiply(const Operand<T>& a, const Operand<T>& b, int depth,
                                  const Out& out) {
    extern __shared__ __align__(16) unsigned char shared[];
    float* left = reinterpret_cast<float*>(shared);
    float* right = left + kDepth * kStride;
    const int row = threadIdx.x / kAcross * kSide, col = threadIdx.x % kAcross * kSide;
    float sums[kSide][kSide] = {};
    for (int k = 0; k < depth; k += kDepth) {
      __syncthreads();
      copy_step<kTurnA>(a, k, depth, left);
      copy_step<kTurnB>(b, k, depth, right);
      __syncthreads();
#pragma unroll
      for (int step = 0; step < kDepth; ++step) {
        const float *of_rows = left + step * kStride + row, *of_cols = right + step * kStride + col;
#pragma unroll
        for (int i = 0; i < kSide; ++i) {
#pragma unroll
          for (int j = 0; j < kSide; ++j) sums[i][j] += of_rows[i] * of_cols[j];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kSide; ++i) out(row + i, col, sums[i], kSide);
  }
};

}  // namespace

void launch_grouped_mm_transposed(const Groups& groups, const MatrixShape& shape, const float* x,
                                  const Stacks<float>& w, float* y, cudaStream_t stream) {
  start_grouped_mm<FloatTiles, true>(groups, shape, x, w, y, stream);
}
void launch_grouped_mm(const Groups& groups, const MatrixShape& shape, const float* dy,
                       const Stacks<float>& w, float* dx, cudaStream_t stream) {
  start_grouped_mm<FloatTiles, false>(groups, shape, dy, w, dx, stream);
}
void launch_grouped_add_products(const Groups& groups, const MatrixShape& shape, const float* dy,
                                 const float* x, float* grad, cudaStream_t stream) {
  start_add_products<FloatTiles>(groups, shape, dy, x, grad, stream);
}

}  // namespace sutor::ops::cuda
