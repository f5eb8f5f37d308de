// Ranks that hold the same rows have to compute the same bits, so all of a job use the same
// kernels.
#pragma once

#include <string>
#include <vector>

namespace sutor {

// levels: of each rank, as ops::kernel_level() names it. Throws E0291, equal on all ranks, when
// they differ.
void check_same_kernels(const std::vector<std::string>& levels);

}  // namespace sutor
