#include "csrc/ops/cpu/few_rows_gemm.h"

#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/ops/cpu/row_kernels.h"
#include "csrc/ops/cpu/torch_ops.h"
#include "csrc/ops/cpu/transpose_kernels.h"

namespace sutor::ops {
namespace {

// Rows of x at a time: a block of x and the tile of results stay in the core's cache.
constexpr int64_t kRows = 128;
constexpr int64_t kLanes = 16;   // floats of a vector: rows are padded to a multiple
constexpr int64_t kTile = 64;    // columns of y at a time in the transposed form
constexpr int64_t kPanel = 256;  // columns of the weight at a time in the plain form
constexpr int64_t kDepth = 512;  // summed over at a time

// Scratch that a thread keeps: a fresh block would cost page faults at every call.
float* scratch(int which, int64_t floats) {
  thread_local std::vector<float> buffers[3];
  if (static_cast<int64_t>(buffers[which].size()) < floats) buffers[which].resize(floats);
  return buffers[which].data();
}

// c (+)= a b for a [m, k], b [k, n]; in bf16 b holds pairs of rows.
void brgemm(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc, bool add,
            const float* a, const float* b, float* c) {
  at::native::cpublas::brgemm(m, n, k, lda, ldb, ldc, add, a, b, c, /*is_vnni=*/false);
}
void brgemm(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc, bool add,
            const BFloat* a, const BFloat* b, float* c) {
  at::native::cpublas::brgemm(m, n, k, lda, ldb, ldc, add, reinterpret_cast<const at::BFloat16*>(a),
                              reinterpret_cast<const at::BFloat16*>(b), c, /*is_vnni=*/true);
}

// oneDNN generates these kernels for AVX-512 only; torch would quietly fall back to BLAS.
bool has_fp32_kernel() {
  static const bool has = __builtin_cpu_supports("avx512f") > 0;
  return has;
}

// Whether this CPU and torch have the bf16 kernel with a right operand of interleaved pairs of
// rows: found by trying it, since torch offers no question.
bool has_bf16_kernel() {
  static const bool has = [] {
    const std::vector<at::BFloat16> a(4, 1.5f), b(32, 2.0f);
    std::vector<float> c(32, 0.0f);
    try {
      brgemm(2, 16, 2, 2, 16, 16, false, reinterpret_cast<const BFloat*>(a.data()),
             reinterpret_cast<const BFloat*>(b.data()), c.data());
    } catch (const std::exception&) {
      return false;
    }
    return std::all_of(c.begin(), c.end(), [](float value) { return value == 6.0f; });
  }();
  return has;
}

// `depth`: the axis that is summed over. Pairs of bf16 need an even one.
bool served(const at::Tensor& x, int64_t depth) {
  if (x.scalar_type() == at::kFloat) return has_fp32_kernel();
  return depth % 2 == 0 && x.stride(0) % 2 == 0 && has_bf16_kernel();
}

// A CPU's tile registers (AMX) stay set up for the last bf16 kernel of a thread, and torch believes
// that they still are at its next one. Other products of oneDNN set them free in between, and the
// kernel is then an illegal instruction: so they are given back after every use.
struct TileRegisters {
  TileRegisters() = default;
  ~TileRegisters() { at::native::cpublas::brgemm_release(/*is_vnni=*/true); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

void fall_back(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y) {
  if (y.scalar_type() == x.scalar_type()) {
    at::Tensor out = y;
    at::mm_out(out, x, w);
  } else {
    y.copy_(at::mm(x.to(at::kFloat), w.to(at::kFloat)));
  }
}

// In 32-bit words: a float, or a pair of bf16 along the depth.
template <typename T>
constexpr int64_t kPerWord = static_cast<int64_t>(4 / sizeof(T));

template <typename T, typename Y>
void transposed(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y) {
  const int64_t rows = x.size(0), depth = x.size(1), columns = w.size(0);
  const int64_t words = depth / kPerWord<T>;
  for (int64_t at = 0; at < rows; at += kRows) {
    const int64_t n = std::min(kRows, rows - at), padded = (n + kLanes - 1) / kLanes * kLanes;
    float* x_t = scratch(0, words * padded);  // [words, padded]
    float* tile = scratch(1, kTile * padded);
    transpose(reinterpret_cast<const float*>(data<T>(x) + at * x.stride(0)),
              x.stride(0) / kPerWord<T>, n, words, x_t, padded);
    for (int64_t column = 0; column < columns; column += kTile) {
      const int64_t m = std::min(kTile, columns - column);
      for (int64_t from = 0; from < depth; from += kDepth) {
        brgemm(m, padded, std::min(kDepth, depth - from), w.stride(0), padded, padded, from > 0,
               data<T>(w) + column * w.stride(0) + from,
               reinterpret_cast<const T*>(x_t + from / kPerWord<T> * padded), tile);
      }
      transpose_back(tile, padded, m, n, data<Y>(y) + at * y.stride(0) + column, y.stride(0));
    }
  }
}

template <typename T, typename Y>
void plain(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y) {
  const int64_t rows = x.size(0), depth = x.size(1), columns = w.size(1);
  float* sums = nullptr;  // [rows, columns]
  int64_t stride = columns;
  if constexpr (std::is_same_v<Y, float>) {
    sums = data<float>(y);
    stride = y.stride(0);
  } else {
    sums = scratch(1, rows * columns);
  }
  for (int64_t from = 0; from < depth; from += kDepth) {
    const int64_t k = std::min(kDepth, depth - from);
    for (int64_t column = 0; column < columns; column += kPanel) {
      const int64_t width = std::min(kPanel, columns - column);
      const T* right = data<T>(w) + from * w.stride(0) + column;
      int64_t right_stride = w.stride(0);
      if constexpr (std::is_same_v<T, BFloat>) {
        float* pairs = scratch(0, k / 2 * width);
        interleave_pairs(right, right_stride, k, width, reinterpret_cast<uint32_t*>(pairs));
        right = reinterpret_cast<const BFloat*>(pairs);
        right_stride = width;
      }
      for (int64_t at = 0; at < rows; at += kRows) {
        brgemm(std::min(kRows, rows - at), width, k, x.stride(0), right_stride, stride, from > 0,
               data<T>(x) + at * x.stride(0) + from, right, sums + at * stride + column);
      }
    }
  }
  if constexpr (!std::is_same_v<Y, float>) {
    store_rows(sums, stride, data<Y>(y), y.stride(0), rows, columns);
  }
}

}  // namespace

void few_rows_mm_transposed(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y) {
  SUTOR_ASSERT(x.size(1) == w.size(1) && y.size(0) == x.size(0) && y.size(1) == w.size(0));
  if (!served(x, x.size(1))) return fall_back(x, w.t(), y);
  const bool fp32 = x.scalar_type() == at::kFloat, fp32_out = y.scalar_type() == at::kFloat;
  if (fp32) return transposed<float, float>(x, w, y);
  const TileRegisters registers;
  fp32_out ? transposed<BFloat, float>(x, w, y) : transposed<BFloat, BFloat>(x, w, y);
}

void few_rows_mm(const at::Tensor& x, const at::Tensor& w, const at::Tensor& y) {
  SUTOR_ASSERT(x.size(1) == w.size(0) && y.size(0) == x.size(0) && y.size(1) == w.size(1));
  if (!served(x, x.size(1))) return fall_back(x, w, y);
  const bool fp32 = x.scalar_type() == at::kFloat, fp32_out = y.scalar_type() == at::kFloat;
  if (fp32) return plain<float, float>(x, w, y);
  const TileRegisters registers;
  fp32_out ? plain<BFloat, float>(x, w, y) : plain<BFloat, BFloat>(x, w, y);
}

}  // namespace sutor::ops
