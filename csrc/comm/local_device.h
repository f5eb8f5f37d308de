// Which GPU of its host a rank takes: one rank a GPU. Nothing here calls CUDA.
#pragma once

#include <string>
#include <vector>

#include "csrc/comm/comm.h"

namespace sutor {

// What a process sees of the GPUs of its host.
struct VisibleGpus {
  std::vector<std::string> ids;  // by index; the same GPU has the same id in all processes
  std::string why_none;          // the driver's words when there are none
};

// Collective. The index in `visible` of the GPU that this rank takes: in the order of ranks each
// takes the first GPU that it sees and that no earlier rank of its host took. So ranks that see the
// same GPUs take one after the other, and where the launcher shows each rank a GPU of its own
// (srun --gpus-per-task=1), that is index 0 for all.
// Throws E0612 on all ranks alike when a rank finds none.
int local_device_of(Comm& control, const VisibleGpus& visible);

}  // namespace sutor
