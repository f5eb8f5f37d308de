// Whether a plan fits in memory, and what to change when it does not.
#pragma once

#include <optional>
#include <string>

#include "launch/plan/run_plan.h"

namespace sutor {

struct DeviceMemory {
  std::optional<int64_t> bytes;  // for one rank; none: not known
  std::string what;              // whose, or why it is not known
};

// Bytes that count against it: the peak of tensors, and on the CPU the copy of the training state
// that a background save takes.
int64_t needed_bytes(const RunPlan& plan, const Recipe& recipe, bool gpu);

// "4 GiB", "24GiB", "1.5 TiB", "80GB" or plain bytes. Throws E0202.
int64_t parse_bytes(const std::string& text, const std::string& option);

// The first single change of the recipe with which it fits, then combinations of them: what it
// would say in the recipe, and what it would need then. Nothing when none of them fits.
struct Fit {
  std::string change;
  int64_t bytes = 0;
};
std::optional<Fit> smallest_change(const PlanBasis& basis, int64_t limit);

// What to say of the layout: expert parallelism costs exchanges of rows, so ep: 1 is proposed
// wherever that fits. Empty when there is nothing to propose.
std::string layout_proposal(const PlanBasis& basis, const DeviceMemory& memory);

}  // namespace sutor
