// In place of CUDA's header (cuda_emulation.h): bf16 as bits, of which kernels have their own
// arithmetic.
#pragma once

#include <cstdint>

struct __nv_bfloat16 {
  uint16_t bits;
};
