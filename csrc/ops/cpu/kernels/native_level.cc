// SUTOR_NATIVE: one more level, for the CPU of the machine that built. What that CPU had is not
// known here, so whoever asked for it is believed.
#include "csrc/ops/cpu/kernels/kernel_levels.h"

namespace sutor::ops {

namespace native {
KernelTable kernel_table();
}

std::vector<KernelLevel> native_level() { return {{"native", true, native::kernel_table}}; }

}  // namespace sutor::ops
