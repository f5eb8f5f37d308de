// The environment that torchrun gives to its processes, and that SageMaker, Kubeflow and scripts
// copy: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, LOCAL_RANK, LOCAL_WORLD_SIZE.
#pragma once

#include <optional>
#include <string>

#include "launch/torchrun/variables.h"

namespace sutor {

struct TorchEnvironment {
  int rank = 0, world_size = 1;
  int local_rank = 0, local_world_size = 1;
  std::string address;  // MASTER_ADDR: the host of rank 0
  int port = 0;         // MASTER_PORT
  // The torchrun of the first host keeps a store at that port already; else rank 0 opens it.
  bool agent_store = false;
  std::string job;  // tells apart jobs and restarts that meet at one store

  std::string meeting_place() const;  // "10.0.0.1:29500"
};

// None where another launcher or none started this process: WORLD_SIZE is not set or 1, or PMI_SIZE
// is set by a launcher that is nearer than torchrun. Throws E0240 when several processes were
// started but cannot find each other (RANK, MASTER_ADDR or MASTER_PORT is missing), E0243 for
// values that are not possible.
std::optional<TorchEnvironment> torch_environment(const Environment& environment);

// The rank where that environment is complete, else -1; throws nothing.
int torch_rank(const Environment& environment);

}  // namespace sutor
