// Which level of the kernels this process uses: chosen once, by the CPU, or by SUTOR_KERNELS.
#pragma once

#include <string>

namespace sutor::ops {

// "x86-64-v2", "x86-64-v3", "x86-64-v4" or "native"; "baseline" on other targets. Throws E0290 when
// SUTOR_KERNELS names one that was not built or that the CPU lacks.
const std::string& kernel_level();

}  // namespace sutor::ops
