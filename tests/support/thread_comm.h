// Ranks that are threads of one process, for tests of what is built on a communicator.
#pragma once

#include <functional>

#include "csrc/comm/comm.h"

namespace sutor::testing {

// Calls `rank` in as many threads, each with its communicator, and waits for them. An error of a
// rank is a failure of the test.
void run_ranks(int ranks, const std::function<void(Comm&)>& rank);

}  // namespace sutor::testing
