// Makes one MPI job of the processes that torchrun, or a script with its environment, started: on
// one host or several, without ssh.
#pragma once

#include <memory>

#include "launch/torchrun/variables.h"

namespace sutor {

class JoinedRanks {
 public:
  // Where this process keeps the store: waits until the other ranks do not need it any more, for a
  // few seconds at most.
  virtual ~JoinedRanks() = default;
};

// Where torch_environment() finds one: meets the other ranks at MASTER_ADDR:MASTER_PORT - at the
// store of torchrun, or one that rank 0 opens there - and sets PMI_RANK, PMI_SIZE and PMI_FD, so
// that make_world_comm() finds them over MPI. Lives until MPI has ended. Else nothing happens.
// Collective over the processes of the job. Throws E0240 when the port is another's, or a rank is
// there twice; E0602 when ranks do not come within SUTOR_COMM_TIMEOUT.
std::unique_ptr<JoinedRanks> join_torch_ranks(const Environment& environment);

}  // namespace sutor
