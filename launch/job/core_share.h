// How many cores this process may use, and this rank's share of those that several ranks may use.
#pragma once

#include "csrc/comm/comm.h"

namespace sutor {

// Cores that the scheduler grants this process: its affinity, cut by the CPU quota of its cgroup.
int usable_cores();

// Collective over the world: the cores of this process, divided by the ranks that may use the same
// ones. A launcher that binds each rank to cores of its own leaves them all to it. At least 1.
int core_share(Comm& world);

}  // namespace sutor
