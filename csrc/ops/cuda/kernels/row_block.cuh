// How kernels of one block a row are started.
#pragma once

#include "csrc/ops/cuda/rows/block.h"

namespace sutor::ops::cuda {

// Threads for rows of so many elements: whole warps, at most `most`.
inline unsigned threads_for(int64_t cols, int64_t most = 256) {
  const int64_t warps = (cols + 31) / 32;
  return static_cast<unsigned>(warps < 1 ? 32 : 32 * warps < most ? 32 * warps : most);
}

inline unsigned blocks_for(int64_t count, int64_t each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

}  // namespace sutor::ops::cuda
