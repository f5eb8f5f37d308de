// Where the compiler's target is not x86-64: what every CPU of the target runs.
#include "csrc/ops/cpu/kernels/kernel_levels.h"

namespace sutor::ops {

namespace baseline {
KernelTable kernel_table();
}

std::vector<KernelLevel> target_levels() { return {{"baseline", true, baseline::kernel_table}}; }

}  // namespace sutor::ops
