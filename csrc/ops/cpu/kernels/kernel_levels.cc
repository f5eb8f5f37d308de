#include "csrc/ops/cpu/kernels/kernel_levels.h"

#include <fmt/ranges.h>

#include "csrc/base/error.h"

namespace sutor::ops {

std::vector<KernelLevel> kernel_levels() {
  std::vector<KernelLevel> levels = target_levels();
  for (KernelLevel& level : native_level()) levels.push_back(std::move(level));
  return levels;
}

const KernelLevel& choose_level(const std::vector<KernelLevel>& levels, const char* wanted) {
  const bool asked = wanted != nullptr && *wanted != '\0';
  const KernelLevel* best = nullptr;
  std::vector<std::string> usable;
  for (const KernelLevel& level : levels) {
    if (level.runs_here) usable.push_back(level.name);
    if (asked ? level.name == wanted : level.runs_here) best = &level;
  }
  const std::string list = usable.empty() ? "none" : fmt::format("{}", fmt::join(usable, ", "));
  if (best == nullptr && asked) {
    fail(ErrorCode::kNoKernels,
         "SUTOR_KERNELS={}: there are no such kernels. Those that this CPU runs: {}", wanted, list);
  }
  if (best == nullptr) {
    fail(ErrorCode::kNoKernels,
         "this CPU runs none of the kernels that the program was built with: the lowest are {}",
         levels.front().name);
  }
  if (!best->runs_here) {
    fail(ErrorCode::kNoKernels,
         "SUTOR_KERNELS={}: this CPU lacks instructions that they use. Those that it runs: {}",
         wanted, list);
  }
  return *best;
}

}  // namespace sutor::ops
