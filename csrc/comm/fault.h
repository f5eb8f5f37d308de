// Fault injection for the tests, without effect unless the environment asks for it: one rank dies,
// stops or fails at the beginning of a named operation.
//   SUTOR_FAULT="kill|stop|throw:rank=R:op=<operation name>[:count=N]"
// R is a rank of the world; the N-th operation of that name is meant, by default the first. kill =
// SIGKILL, stop = SIGSTOP, throw = an error with code E0390, as if only a file of that rank were
// bad. A build without it (no_fault.cc instead of fault.cc: SUTOR_FAULTS=OFF) refuses the variable.
#pragma once

#include <atomic>
#include <string>

namespace sutor {

class FaultPlan {
 public:
  // Reads SUTOR_FAULT; throws E0241 when it is malformed, E0242 when there is no fault injection.
  explicit FaultPlan(int world_rank);

  // To be called at the beginning of every operation.
  void act(const char* operation) const {
    if (mine_) act_if_it_is(operation);
  }

 private:
  void act_if_it_is(const char* operation) const;

  bool mine_ = false;
  std::string action_, operation_;
  mutable std::atomic<int> left_ = 1;
};

}  // namespace sutor
