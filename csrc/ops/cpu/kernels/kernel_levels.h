// The levels that this program's kernels were compiled for; CMake chooses by file which these are.
#pragma once

#include <string>
#include <vector>

#include "csrc/ops/cpu/kernels/kernel_table.h"

namespace sutor::ops {

struct KernelLevel {
  std::string name;
  bool runs_here = true;  // the CPU has what the level needs
  KernelTable (*table)() = nullptr;
};

// From the lowest to the highest: those of the target, then the native one.
std::vector<KernelLevel> kernel_levels();

std::vector<KernelLevel> target_levels();  // x86_levels.cc or baseline_level.cc
std::vector<KernelLevel> native_level();   // native_level.cc or no_native_level.cc: none

// The level called `wanted`, or the highest that runs here when it is null or empty. E0290 when
// there is no such level, or the CPU lacks it.
const KernelLevel& choose_level(const std::vector<KernelLevel>& levels, const char* wanted);

}  // namespace sutor::ops
