// Which device a job computes on.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "csrc/comm/comm.h"

namespace sutor {

struct ChosenDevice {
  at::Device device = at::kCPU;
  std::string text = "cpu";  // and why: "cpu (auto: this build has no CUDA)"
};

// asked: the recipe's `device`. auto: a GPU for every rank where all hosts have them, else the CPU.
// The same kind on all ranks; a GPU's number is the rank's among those of its host. Collective over
// the world. Throws E0221 for `cuda` in a build without it or where there is no GPU, E0613 where a
// host has more ranks than GPUs.
ChosenDevice choose_device(const std::string& asked, Comm& world);

}  // namespace sutor
