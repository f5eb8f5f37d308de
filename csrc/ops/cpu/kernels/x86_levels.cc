// The levels of the x86-64 psABI: v2 has SSE4 (all CPUs since 2009), v3 AVX2 and FMA, v4 AVX-512.
#include "csrc/ops/cpu/kernels/kernel_levels.h"

namespace sutor::ops {

namespace x86_64_v2 {
KernelTable kernel_table();
}
namespace x86_64_v3 {
KernelTable kernel_table();
}
namespace x86_64_v4 {
KernelTable kernel_table();
}

std::vector<KernelLevel> target_levels() {
  return {{"x86-64-v2", __builtin_cpu_supports("x86-64-v2") != 0, x86_64_v2::kernel_table},
          {"x86-64-v3", __builtin_cpu_supports("x86-64-v3") != 0, x86_64_v3::kernel_table},
          {"x86-64-v4", __builtin_cpu_supports("x86-64-v4") != 0, x86_64_v4::kernel_table}};
}

}  // namespace sutor::ops
