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

// asked: the recipe's `device`. auto: GPUs where all hosts have them, else the CPU; the same on all
// ranks. One rank takes one GPU of its host (csrc/comm/local_device.h). Collective over the world.
// Throws E0223 for `cuda` in a build without it or where a host has no GPU, E0612 where a host has
// more ranks than GPUs.
ChosenDevice choose_device(const std::string& asked, Comm& world);

}  // namespace sutor
