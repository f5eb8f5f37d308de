// How this process was started: alone, by mpiexec, srun or torchrun. Read from the environment
// before MPI is initialised, so that a start that would run the same job several times is refused
// by name.
#pragma once

#include <string>

#include "launch/torchrun/variables.h"

namespace sutor {

struct Launcher {
  enum class Kind { kNone, kMpiexec, kSrun, kTorchrun };
  Kind kind = Kind::kNone;
  int rank = 0, world_size = 1;
  int local_rank = 0, ranks_on_node = 1;

  std::string text() const;  // "srun, rank 3 of 8, 1 of 4 on this node"
};

Environment process_environment();

// Throws E0240 when a launcher started several processes that MPICH cannot connect: srun without
// --mpi=pmi2, the mpiexec of another MPI, or an incomplete environment of torchrun (E0243: one with
// impossible values).
Launcher detect_launcher(const Environment& environment);

// Whether this process prints what all processes of the job would: the first one that the launcher
// started, even where MPI does not know the others.
bool speaks_for_all(const Environment& environment);

}  // namespace sutor
