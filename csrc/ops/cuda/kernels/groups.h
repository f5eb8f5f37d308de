// Rows that are grouped by expert, and a tensor of each expert, as kernels take them.
#pragma once

#include "csrc/ops/cuda/rows/block.h"

namespace sutor::ops::cuda {

// Group g has the rows [offsets[g], offsets[g + 1]); offsets [groups + 1] on the device. There are
// at most so many rows: which of them the groups have is not known on the host.
struct Groups {
  const int64_t* offsets = nullptr;
  int64_t groups = 0, rows = 0;
};

// One tensor of `stride` elements a group: the first `num_trained` in one stack, the others in
// another.
template <typename T>
struct Stacks {
  const T *trained = nullptr, *frozen = nullptr;
  int64_t num_trained = 0, stride = 0;

  SUTOR_HOST_DEVICE const T* of(int64_t group) const {
    return group < num_trained ? trained + group * stride : frozen + (group - num_trained) * stride;
  }
};

}  // namespace sutor::ops::cuda
