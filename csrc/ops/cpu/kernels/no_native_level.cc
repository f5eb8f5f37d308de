// Without SUTOR_NATIVE.
#include "csrc/ops/cpu/kernels/kernel_levels.h"

namespace sutor::ops {

std::vector<KernelLevel> native_level() { return {}; }

}  // namespace sutor::ops
