// An MPI communicator, and waiting for requests of it without MPI's blocking calls: with more ranks
// than cores MPICH's busy wait costs whole scheduler ticks.
// Errors: E0602 a wait beyond the limit, E0603 what MPI reports.
#pragma once

#include <mpi.h>

#include <span>

namespace sutor {

struct PolledComm {
  explicit PolledComm(MPI_Comm comm);

  // Throws E0603 when `result` is not MPI_SUCCESS. `name`: of the operation.
  void check(int result, const char* name) const;
  // Moves the requests on without waiting; whether all are done. Null requests are done.
  bool test(std::span<MPI_Request> requests, const char* name) const;
  // Polls them to their end: a few tests, then yields, then sleeps of 1 us.
  void wait(std::span<MPI_Request> requests, const char* name) const;

  MPI_Comm comm;
  int rank = 0, size = 1;
};

}  // namespace sutor
