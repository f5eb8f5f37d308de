// Runs a verb over the ranks of a job, so that all of them end together whatever happens.
#pragma once

#include <functional>

#include "csrc/comm/comm.h"
#include "launch/job/failure.h"

namespace sutor {

// Detects the launcher (none, mpiexec, srun, torchrun), sets the number of threads to this rank's
// share of the cores that it may use (OMP_NUM_THREADS wins), runs `body` on each rank, and returns
// the exit code of this process. An error that all ranks have is printed once; an error of some
// ranks is printed with the rank's number, and ends the whole job with its code. A rank that dies
// or stops ends the job with exit code 6 (csrc/comm/watchdog/watchdog.h).
int run_job(const std::function<int(Comm& world)>& body);

// Applies the recipe's train.threads: a number, or auto for what run_job() chose. Throws E0205.
void set_threads(const std::string& threads);

}  // namespace sutor
