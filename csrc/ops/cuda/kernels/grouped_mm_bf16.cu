// Grouped products in bf16 on tensor cores, by the wmma functions: 128 x 128 tiles, copied to
// shared memory asynchronously, three steps of the depth at a time.
#include <cuda_bf16.h>
#include <cuda_pipeline.h>
#include <mma.h>

#include <type_traits>

#include "csrc/ops/cuda/kernels/grouped_mm.cuh"

namespace sutor::ops::cuda {
namespace {

namespace wmma = nvcuda::wmma;

constexpr int kTileSide = 128, kDepth = 32, kNumThreads = 256;
constexpr int kStages = 3;
constexpr int kVector = 8;             // elements of 16 bytes
constexpr int kPad = kVector;          // elements after each row, against bank conflicts
constexpr int kM = 16;                 // of a fragment, each way
constexpr int kRows = 64, kCols = 32;  // of a warp: two warps down, four across
constexpr int kDown = kRows / kM, kAcross = kCols / kM;
constexpr int kFragmentStride = kM + 4;  // of fp32 fragments in shared memory

// Of an operand in shared memory.
template <bool kTurned>
constexpr int kRowElements = (kTurned ? kTileSide : kDepth) + kPad;
template <bool kTurned>
constexpr int kElements = (kTurned ? kDepth : kTileSide) * kRowElements<kTurned>;
constexpr int kStageElements = 2 * kElements<false>;
static_assert(kElements<true> <= kElements<false>);

using Number = __nv_bfloat16;
template <bool kTurned>
using LayoutA = std::conditional_t<kTurned, wmma::col_major, wmma::row_major>;
template <bool kTurned>
using LayoutB = std::conditional_t<kTurned, wmma::row_major, wmma::col_major>;
using Sums = wmma::fragment<wmma::accumulator, kM, kM, kM, float>[kDown][kAcross];

struct WmmaTiles {
  using T = Bf16;
  static constexpr int kTile = kTileSide, kThreads = kNumThreads;
  static constexpr int kBlocks = 2;
  static constexpr int kSharedBytes = kStages * kStageElements * sizeof(Bf16);
  static_assert(kSharedBytes >= kThreads / 32 * kM * kFragmentStride * sizeof(float));

  // Copies kCopyRows x kCopyCols elements, of which the first rows x cols exist; the others become
  // 0.
  template <int kCopyRows, int kCopyCols, bool kAligned>
  __device__ static void copy(const T* from, int64_t stride, int rows, int cols, T* to) {
    constexpr int kVectors = kCopyCols / kVector;
#pragma unroll
    for (int i = threadIdx.x; i < kCopyRows * kVectors; i += kThreads) {
      const int r = i / kVectors, c = i % kVectors * kVector;
      const T* source = from + r * stride + c;
      T* target = to + r * (kCopyCols + kPad) + c;
      if constexpr (kAligned) {
        const bool exists = r < rows && c < cols;
        __pipeline_memcpy_async(target, exists ? source : from, 16, exists ? 0 : 16);
      } else {
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          target[j] = r < rows && c + j < cols ? source[j] : T{0};
        }
      }
    }
  }

  // Copies the operand from depth `k` on.
  template <bool kTurned, bool kAligned>
  __device__ static void copy_step(const Operand<T>& operand, int k, int depth, T* to) {
    if constexpr (kTurned) {
      copy<kDepth, kTile, kAligned>(operand.data + k * operand.stride, operand.stride, depth - k,
                                    operand.extent, to);
    } else {
      copy<kTile, kDepth, kAligned>(operand.data + k, operand.stride, operand.extent, depth - k,
                                    to);
    }
  }

  // Where a fragment begins: `along` in the tile, `k` in the depth.
  template <bool kTurned>
  __device__ static const Number* corner(const T* operand, int along, int k) {
    const int at = kTurned ? k * kRowElements<true> + along : along * kRowElements<false> + k;
    return reinterpret_cast<const Number*>(operand + at);
  }

  template <bool kTurnA, bool kTurnB>
  __device__ static void add_step(const T* a, const T* b, Sums& sums) {
    const int warp = threadIdx.x / 32;
    const int row = warp / 4 * kRows, col = warp % 4 * kCols;
#pragma unroll 1  // two steps at once take more registers than there are
    for (int k = 0; k < kDepth; k += kM) {
      wmma::fragment<wmma::matrix_a, kM, kM, kM, Number, LayoutA<kTurnA>> left[kDown];
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
        wmma::load_matrix_sync(left[i], corner<kTurnA>(a, row + i * kM, k), kRowElements<kTurnA>);
      }
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        wmma::fragment<wmma::matrix_b, kM, kM, kM, Number, LayoutB<kTurnB>> right;
        wmma::load_matrix_sync(right, corner<kTurnB>(b, col + j * kM, k), kRowElements<kTurnB>);
#pragma unroll
        for (int i = 0; i < kDown; ++i) wmma::mma_sync(sums[i][j], left[i], right, sums[i][j]);
      }
    }
  }

  // Fragments keep their layout to themselves: through shared memory, half a row a lane.
  template <typename Out>
  __device__ static void write(const Sums& sums, float* shared, const Out& out) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row = warp / 4 * kRows + lane / 2, col = warp % 4 * kCols + lane % 2 * kVector;
    float* fragment = shared + warp * kM * kFragmentStride;
    const float* own = fragment + lane / 2 * kFragmentStride + lane % 2 * kVector;
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        wmma::store_matrix_sync(fragment, sums[i][j], kFragmentStride, wmma::mem_row_major);
        __syncwarp();
        out(row + i * kM, col + j * kM, own, kVector);
        __syncwarp();
      }
    }
  }

  template <bool kTurnA, bool kTurnB, bool kAligned, typename Out>
  __device__ static void multiply(const Operand<T>& a, const Operand<T>& b, int depth,
                                  const Out& out) {
    extern __shared__ __align__(128) unsigned char shared[];
    T* stages = reinterpret_cast<T*>(shared);
    const int steps = (depth + kDepth - 1) / kDepth;
    const auto a_of = [=](int step) { return stages + step % kStages * kStageElements; };
    const auto b_of = [=](int step) { return a_of(step) + kElements<kTurnA>; };
    const auto start_copy = [&](int step) {
      if (step < steps) {
        copy_step<kTurnA, kAligned>(a, step * kDepth, depth, a_of(step));
        copy_step<kTurnB, kAligned>(b, step * kDepth, depth, b_of(step));
      }
      __pipeline_commit();
    };
    Sums sums;
#pragma unroll
    for (int i = 0; i < kDown; ++i) {
#pragma unroll
      for (int j = 0; j < kAcross; ++j) wmma::fill_fragment(sums[i][j], 0.0f);
    }
    for (int step = 0; step < kStages - 1; ++step) start_copy(step);
    for (int step = 0; step < steps; ++step) {
      __pipeline_wait_prior(kStages - 2);
      __syncthreads();  // this step is there; nobody reads the one before it any more
      start_copy(step + kStages - 1);
      add_step<kTurnA, kTurnB>(a_of(step), b_of(step), sums);
    }
    __pipeline_wait_prior(0);
    __syncthreads();
    write(sums, reinterpret_cast<float*>(shared), out);
  }
};

}  // namespace

void launch_grouped_mm_transposed(const Groups& groups, const MatrixShape& shape, const Bf16* x,
                                  const Stacks<Bf16>& w, Bf16* y, cudaStream_t stream) {
  start_grouped_mm<WmmaTiles, true>(groups, shape, x, w, y, stream);
}
void launch_grouped_mm(const Groups& groups, const MatrixShape& shape, const Bf16* dy,
                       const Stacks<Bf16>& w, Bf16* dx, cudaStream_t stream) {
  start_grouped_mm<WmmaTiles, false>(groups, shape, dy, w, dx, stream);
}
void launch_grouped_add_products(const Groups& groups, const MatrixShape& shape, const Bf16* dy,
                                 const Bf16* x, float* grad, cudaStream_t stream) {
  start_add_products<WmmaTiles>(groups, shape, dy, x, grad, stream);
}

}  // namespace sutor::ops::cuda
