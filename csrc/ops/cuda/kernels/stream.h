// The stream that launchers take, without CUDA's headers. Launchers take pointers to memory of the
// GPU unless they say otherwise, return before the kernel ends, and do nothing where there is
// nothing to do; the caller asks CUDA for errors. T is float or Bf16 (rows/number.h).
#pragma once

#include <cstdint>

#include "csrc/ops/cuda/rows/number.h"

typedef struct CUstream_st* cudaStream_t;
