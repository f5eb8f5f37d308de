#include "launch/job/kernel_agreement.h"

#include <fmt/ranges.h>

#include <map>

#include "csrc/base/error.h"

namespace sutor {

void check_same_kernels(const std::vector<std::string>& levels) {
  std::map<std::string, std::vector<int>> ranks;
  for (size_t r = 0; r < levels.size(); ++r) ranks[levels[r]].push_back(static_cast<int>(r));
  if (ranks.size() <= 1) return;
  std::vector<std::string> found;
  for (const auto& [level, of] : ranks) {
    found.push_back(fmt::format("{} (ranks {})", level, fmt::join(of, ", ")));
  }
  // Names of levels sort from the lowest to the highest.
  fail(
      ErrorCode::kKernelsDiffer,
      "ranks have different kernels: {}. What several ranks compute alike would differ. Their CPUs "
      "or settings are unequal; start all ranks with SUTOR_KERNELS={}, or on equal nodes.",
      fmt::join(found, ", "), ranks.begin()->first);
}

}  // namespace sutor
