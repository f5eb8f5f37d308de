// The kernels of grouped_mm.h over a way to multiply one tile, `Tiles`, which has
//   T                              the numbers
//   kTile, kThreads, kBlocks       a tile is kTile x kTile; blocks of an SM at once
//   kSharedBytes                   of shared memory
//   multiply<TurnA, TurnB, Aligned>(a, b, depth, out)
//                                  out(row, col, values, count) gets sum over k of a[row, k]
//                                  b[col, k], a few columns of a row at a time
// An operand that is turned lies as [depth, kTile] in memory, else as [kTile, depth]. Aligned: its
// rows begin at multiples of 16 bytes and have whole ones.
#pragma once

#include <cstdint>

#include "csrc/ops/cuda/kernels/grouped_mm.h"
#include "csrc/ops/cuda/kernels/row_block.cuh"
#include "csrc/ops/cuda/rows/group_tiles.h"

namespace sutor::ops::cuda {

// From the corner of a tile on: how long the rows in memory are, and how far the operand reaches
// along the tile.
template <typename T>
struct Operand {
  const T* data;
  int64_t stride;
  int extent;  // at most that of a tile
};

__device__ inline int at_most(int64_t count, int most) {
  return count < most ? static_cast<int>(count) : most;
}

// The rows and columns of a tile that exist; values are stored, or added to what is there.
template <typename To, bool kAdd>
struct TileOutput {
  To* data;
  int64_t stride;
  int rows, cols;

  __device__ void operator()(int row, int col, const float* values, int count) const {
    if (row >= rows) return;
    To* to = data + row * stride + col;
    for (int i = 0; i < count && col + i < cols; ++i) {
      if constexpr (kAdd) {
        to[i] += values[i];
      } else {
        put(to[i], values[i]);
      }
    }
  }
};

// kTransposed: y = x w^T, else dx = dy w. Columns of tiles come first, so that blocks which run at
// one time share their rows, and those of one group its matrix.
template <typename Tiles, bool kTransposed, bool kAligned>
__global__ void __launch_bounds__(Tiles::kThreads, Tiles::kBlocks)
    grouped_mm_kernel(Groups groups, MatrixShape shape, const typename Tiles::T* x,
                      Stacks<typename Tiles::T> w, typename Tiles::T* y) {
  using T = typename Tiles::T;
  const int64_t cols = kTransposed ? shape.out : shape.in;
  const int64_t depth = kTransposed ? shape.in : shape.out;
  const int64_t tiles_across = (cols + Tiles::kTile - 1) / Tiles::kTile;
  const GroupTile tile =
      tile_at(groups.offsets, groups.groups, Tiles::kTile, blockIdx.x / tiles_across);
  if (tile.rows == 0) return;
  const int64_t col = blockIdx.x % tiles_across * Tiles::kTile;
  const T* matrix = w.of(tile.group) + col * (kTransposed ? shape.in : 1);
  const int rows = static_cast<int>(tile.rows), width = at_most(cols - col, Tiles::kTile);
  const Operand<T> left{x + tile.row * depth, depth, rows};
  const Operand<T> right{matrix, shape.in, width};
  const TileOutput<T, false> out{y + tile.row * cols + col, cols, rows, width};
  Tiles::template multiply<false, !kTransposed, kAligned>(left, right, static_cast<int>(depth),
                                                          out);
}

template <typename Tiles, bool kAligned>
__global__ void __launch_bounds__(Tiles::kThreads, Tiles::kBlocks)
    add_products_kernel(Groups groups, MatrixShape shape, const typename Tiles::T* dy,
                        const typename Tiles::T* x, float* grad) {
  using T = typename Tiles::T;
  const int64_t group = blockIdx.y, first = groups.offsets[group];
  const int64_t rows = groups.offsets[group + 1] - first;
  if (rows == 0) return;
  const int64_t tiles_across = (shape.in + Tiles::kTile - 1) / Tiles::kTile;
  const int64_t row = blockIdx.x / tiles_across * Tiles::kTile;
  const int64_t col = blockIdx.x % tiles_across * Tiles::kTile;
  const int height = at_most(shape.out - row, Tiles::kTile);
  const int width = at_most(shape.in - col, Tiles::kTile);
  const Operand<T> left{dy + first * shape.out + row, shape.out, height};
  const Operand<T> right{x + first * shape.in + col, shape.in, width};
  const TileOutput<float, true> out{grad + (group * shape.out + row) * shape.in + col, shape.in,
                                    height, width};
  Tiles::template multiply<true, true, kAligned>(left, right, static_cast<int>(rows), out);
}

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}
template <typename T>
bool has_aligned_rows(const MatrixShape& shape) {
  return shape.out * sizeof(T) % 16 == 0 && shape.in * sizeof(T) % 16 == 0;
}
template <typename T>
bool is_aligned(const Stacks<T>& w) {
  return is_aligned(w.trained) && is_aligned(w.frozen);  // null, the stack that is not there, is
}

template <typename Tiles, bool kTransposed>
void start_grouped_mm(const Groups& groups, const MatrixShape& shape, const typename Tiles::T* x,
                      const Stacks<typename Tiles::T>& w, typename Tiles::T* y,
                      cudaStream_t stream) {
  const int64_t cols = kTransposed ? shape.out : shape.in;
  if (groups.rows == 0 || groups.groups == 0 || cols == 0) return;
  const bool aligned = has_aligned_rows<typename Tiles::T>(shape) && is_aligned(x) && is_aligned(w);
  const auto kernel = aligned ? grouped_mm_kernel<Tiles, kTransposed, true>
                              : grouped_mm_kernel<Tiles, kTransposed, false>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Tiles::kSharedBytes);
  const int64_t tiles = count_tiles(groups.rows, groups.groups, Tiles::kTile);
  kernel<<<tiles * blocks_for(cols, Tiles::kTile), Tiles::kThreads, Tiles::kSharedBytes, stream>>>(
      groups, shape, x, w, y);
}

template <typename Tiles>
void start_add_products(const Groups& groups, const MatrixShape& shape, const typename Tiles::T* dy,
                        const typename Tiles::T* x, float* grad, cudaStream_t stream) {
  if (groups.rows == 0 || groups.groups == 0 || shape.out * shape.in == 0) return;
  const bool aligned =
      has_aligned_rows<typename Tiles::T>(shape) && is_aligned(dy) && is_aligned(x);
  const auto kernel =
      aligned ? add_products_kernel<Tiles, true> : add_products_kernel<Tiles, false>;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Tiles::kSharedBytes);
  const dim3 blocks(blocks_for(shape.out, Tiles::kTile) * blocks_for(shape.in, Tiles::kTile),
                    static_cast<unsigned>(groups.groups));
  kernel<<<blocks, Tiles::kThreads, Tiles::kSharedBytes, stream>>>(groups, shape, dy, x, grad);
}

}  // namespace sutor::ops::cuda
