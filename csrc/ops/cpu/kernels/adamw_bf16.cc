#include "csrc/ops/cpu/adamw_bf16_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "csrc/ops/cpu/kernels/kernel_table.h"
#include "csrc/ops/cpu/kernels/row_math.h"
#include "csrc/ops/philox.h"

namespace sutor::ops::SUTOR_KERNEL_LEVEL {
namespace {

constexpr int64_t kRun = 256;  // elements whose random words are held

// To one of the two bf16 neighbours, with `random` (16 bits) deciding: up when it and the bits that
// are lost carry. Infinities and NaN stay what they are.
inline BFloat round_at_random(float x, uint32_t random) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = (bits + (finite ? random : 0)) >> 16;
  return {static_cast<uint16_t>(nan ? rounded | 0x40 : rounded)};
}

}  // namespace

void adamw_bf16_step(const AdamWBf16Step& step, uint64_t first, BFloat* weight, BFloat* exp_avg,
                     BFloat* exp_avg_sq, const float* grad, int64_t count) {
  uint32_t word0[kRun], word1[kRun];
  for (int64_t begin = 0; begin < count; begin += kRun) {
    const int64_t n = std::min(kRun, count - begin);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t index = first + static_cast<uint64_t>(begin + i);
      const PhiloxWords words =
          philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), step.name0,
                      step.name1},
                     step.key0, step.key1);
      word0[i] = words.x0;
      word1[i] = words.x1;
    }
    BFloat *w = weight + begin, *m = exp_avg + begin, *v = exp_avg_sq + begin;
    const float* g = grad + begin;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const float first_moment = step.keep1 * get(m[i]) + step.take1 * g[i];
      const float second_moment = step.keep2 * get(v[i]) + step.take2 * g[i] * g[i];
      const float divisor = step.root * std::sqrt(second_moment) + step.eps;
      const float stepped = step.decay * get(w[i]) - step.rate * (first_moment / divisor);
      w[i] = round_at_random(stepped, word0[i] & 0xffff);
      m[i] = round_at_random(first_moment, word0[i] >> 16);
      v[i] = round_at_random(second_moment, word1[i] & 0xffff);
    }
  }
}

void add_optimizer_kernels(KernelTable& table) { table.adamw_bf16_step = adamw_bf16_step; }

}  // namespace sutor::ops::SUTOR_KERNEL_LEVEL
