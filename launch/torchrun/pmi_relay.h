// Stands in for MPI's launcher where there is none: answers the requests of MPICH's start (PMI 1,
// lines over a socket) from a board that all ranks share.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "csrc/base/error.h"
#include "launch/torchrun/board.h"

namespace sutor {

struct RelayedJob {
  int rank = 0, size = 1;
  std::string mapping;  // process_mapping() of the hosts
  double limit = 1800;  // seconds that the start may wait for other ranks
};

// Which ranks share a host, as MPICH reads it: "(vector,(0,1,2),(1,1,2))" = two ranks on host 0,
// then two on host 1. hosts: of each rank. Empty where MPICH could not read so long a line; it then
// finds out by itself.
std::string process_mapping(const std::vector<std::string>& hosts);

// The part of the relay that knows the protocol, apart from sockets and threads.
class PmiAnswers {
 public:
  PmiAnswers(Board& board, RelayedJob job) : board_(board), job_(std::move(job)) {}

  // The answer to a request, both without the end of the line; empty: none is expected. Throws
  // E0602 when a barrier is not complete in time, E0605 when a rank gave up meanwhile, E0603 for a
  // request that is not known.
  std::string answer(const std::string& request);
  bool finalized() const { return finalized_; }

 private:
  void barrier();

  Board& board_;
  RelayedJob job_;
  int barriers_ = 0;
  bool finalized_ = false;
};

class PmiRelay {
 public:
  // Starts a thread that answers over one end of a pair of sockets. A request that fails ends this
  // process with a report and exit code 6: MPI would end it without a reason.
  PmiRelay(std::shared_ptr<Board> board, RelayedJob job);
  // Waits for the thread, which ends when MPI has finalized or closed its end.
  ~PmiRelay();
  PmiRelay(const PmiRelay&) = delete;
  PmiRelay& operator=(const PmiRelay&) = delete;

  // The end that is MPI's: PMI_FD.
  int mpi_end() const { return mpi_end_; }

 private:
  void run();
  [[noreturn]] void end_with(const Error& error);

  std::shared_ptr<Board> board_;
  RelayedJob job_;
  int own_end_ = -1, mpi_end_ = -1;
  std::thread thread_;
};

}  // namespace sutor
