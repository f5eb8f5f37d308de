// The source of ranks for the tests of NcclComm: GPUs (main.cc here), or threads with stand-ins for
// CUDA and NCCL (tests/unit/csrc/comm/).
#pragma once

#include <functional>
#include <string>

#include "csrc/comm/comm.h"

namespace sutor {

// The reason why there are no ranks; "" when there are.
std::string no_ranks_because();

// Calls `test` on each rank with its NcclComm; may do so for several numbers of ranks.
void on_all_ranks(const std::function<void(Comm&)>& test);

}  // namespace sutor
