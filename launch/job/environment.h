// The environment variables that sutor and its launchers read, checked before anything is done: a
// wrong one is an error, not taken as unset.
#pragma once

#include "launch/job/launcher.h"

namespace sutor {

// Throws E0243 naming the variable, what it is and what it should be: those of MPI's launcher
// (PMI_*, MPI_LOCAL*), also when they were left over without one, and SUTOR_HEARTBEAT_TIMEOUT,
// SUTOR_COMM_TIMEOUT, SUTOR_PROGRESS_SECONDS, SUTOR_PEAK_TFLOPS, SUTOR_WATCHDOG, OMP_NUM_THREADS.
void check_environment(const Environment& environment);

}  // namespace sutor
