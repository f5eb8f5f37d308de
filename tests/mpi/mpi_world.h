// The communicator of the ranks that mpiexec started this test program with.
#pragma once

#include "csrc/comm/comm.h"

namespace sutor {

Comm& test_world();

}  // namespace sutor
