// In place of CUDA's header (cuda_emulation.h): products of bf16 fragments with fp32 sums. Every
// lane has the whole fragment; real sums may differ in their order and last bits.
#pragma once

#include <type_traits>

#include "tests/support/cuda_emulation/cuda_bf16.h"
#include "tests/support/cuda_emulation/cuda_emulation.h"

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major };

// x: rows of an operand or of sums, whatever the layout in memory.
template <typename Use, int kM, int kN, int kK, typename T, typename Layout = void>
struct fragment {
  static_assert(kM == 16 && kN == 16 && kK == 16);
  float x[16][16];
};

inline void require_aligned(const void* corner, unsigned stride, size_t element) {
  namespace emulation = sutor::cuda_emulation;
  emulation::require(emulation::is_multiple(corner, 32), "a misaligned fragment");
  emulation::require(stride * element % 16 == 0, "a misaligned row of a fragment");
}

template <typename Use, typename Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, __nv_bfloat16, Layout>& to,
                      const __nv_bfloat16* from, unsigned stride) {
  require_aligned(from, stride, sizeof *from);
  for (unsigned r = 0; r < 16; ++r) {
    for (unsigned c = 0; c < 16; ++c) {
      const bool rows = std::is_same_v<Layout, row_major>;
      const uint32_t bits = uint32_t{from[rows ? r * stride + c : c * stride + r].bits} << 16;
      std::memcpy(&to.x[r][c], &bits, sizeof bits);
    }
  }
}

template <typename Fragment>
void fill_fragment(Fragment& to, float value) {
  for (auto& row : to.x) {
    for (float& x : row) x = value;
  }
}

// sums = a b + c
template <typename Sums, typename A, typename B>
void mma_sync(Sums& sums, const A& a, const B& b, const Sums& c) {
  for (int m = 0; m < 16; ++m) {
    float row[16];
    std::memcpy(row, c.x[m], sizeof row);
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 16; ++n) row[n] += a.x[m][k] * b.x[k][n];
    }
    std::memcpy(sums.x[m], row, sizeof row);
  }
}

template <typename Sums>
void store_matrix_sync(float* to, const Sums& sums, unsigned stride, layout_t) {
  namespace emulation = sutor::cuda_emulation;
  require_aligned(to, stride, sizeof *to);
  if (emulation::thread_of_block % emulation::kWarp != 0) return;
  for (unsigned m = 0; m < 16; ++m) std::memcpy(to + m * stride, sums.x[m], sizeof sums.x[m]);
}

}  // namespace nvcuda::wmma
