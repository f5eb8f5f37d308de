// Ranks that are threads of one process, for tests of code that uses a communicator.
#pragma once

#include <functional>

#include "csrc/comm/comm.h"

namespace sutor::testing {

// Calls `rank` in each thread with its communicator, and waits for all threads. An error of a rank
// fails the test.
void run_ranks(int ranks, const std::function<void(Comm&)>& rank);

}  // namespace sutor::testing
