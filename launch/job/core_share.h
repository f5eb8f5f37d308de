// How many cores this process may use, and how many of them when several ranks may use the same.
#pragma once

#include "csrc/comm/comm.h"

namespace sutor {

// Cores that the scheduler grants this process: its affinity, limited by the CPU quota of its
// cgroup.
int usable_cores();

// Collective over the world: the cores of this process, divided by the number of ranks that may use
// the same ones. A rank that the launcher bound to its own cores gets all of them. At least 1.
int core_share(Comm& world);

}  // namespace sutor
