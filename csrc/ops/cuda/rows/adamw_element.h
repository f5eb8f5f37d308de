// AdamW on one bf16 element with stochastic rounding: the bits of csrc/ops/cpu/adamw_bf16_kernel.h.
// Files that use it are compiled without contracting products into sums.
#pragma once

#include "csrc/ops/adamw_bf16_step.h"
#include "csrc/ops/cuda/rows/number.h"
#include "csrc/ops/philox.h"

namespace sutor::ops::cuda {

// To one of the two bf16 neighbours, with `random` (16 bits) deciding: up when it and the bits that
// are lost carry. Infinities and NaN stay what they are.
SUTOR_HOST_DEVICE inline Bf16 round_at_random(float x, uint32_t random) {
  const uint32_t bits = bits_of_float(x);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = (bits + (finite ? random : 0)) >> 16;
  return {static_cast<uint16_t>(nan ? rounded | 0x40 : rounded)};
}

// `index`: of the element in its tensor.
SUTOR_HOST_DEVICE inline void adamw_bf16_element(const AdamWBf16Step& step, uint64_t index,
                                                 Bf16& weight, Bf16& exp_avg, Bf16& exp_avg_sq,
                                                 float g) {
  const PhiloxWords words = philox4x32(
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), step.name0, step.name1},
      step.key0, step.key1);
  const float first = step.keep1 * get(exp_avg) + step.take1 * g;
  const float second = step.keep2 * get(exp_avg_sq) + step.take2 * g * g;
  const float divisor = step.root * square_root(second) + step.eps;
  const float stepped = step.decay * get(weight) - step.rate * quotient(first, divisor);
  weight = round_at_random(stepped, words.x0 & 0xffff);
  exp_avg = round_at_random(first, words.x0 >> 16);
  exp_avg_sq = round_at_random(second, words.x1 & 0xffff);
}

// The place of a run's elements in their tensor, as AdamWBf16Run has it.
struct ElementIndex {
  int64_t row_begin = 0, col_begin = 0, columns = 1, row_elements = 1;

  SUTOR_HOST_DEVICE uint64_t of(int64_t i) const {
    // Whole rows, the usual case, need no division.
    if (columns == row_elements) return row_begin * row_elements + col_begin + i;
    return (row_begin + i / columns) * row_elements + col_begin + i % columns;
  }
};

}  // namespace sutor::ops::cuda
