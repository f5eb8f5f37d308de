// MpiComm: collectives over MPI. Only non-blocking operations are used, polled as polled_comm.h
// says.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>
#include <vector>

#include "csrc/comm/comm.h"
#include "csrc/comm/journal.h"
#include "csrc/comm/mpi/polled_comm.h"
#include "csrc/comm/watchdog/watchdog.h"

namespace sutor {

class MpiComm final : public Comm {
 public:
  // world_ranks: of this communicator's ranks. failures: a duplicate that nothing but all_failed()
  // uses, or MPI_COMM_NULL.
  // Communicators end with MPI_Finalize: freeing one is collective, and a rank that unwinds after
  // an error of its own must not wait for the others.
  MpiComm(MPI_Comm comm, std::string name, std::vector<int> world_ranks,
          std::shared_ptr<Journal> journal, MPI_Comm failures = MPI_COMM_NULL);

  int rank() const override { return mpi_.rank; }
  int size() const override { return mpi_.size; }
  const std::string& name() const override { return name_; }

  void all_reduce(std::span<float> data, ReduceOp op, const char* name) override;
  void all_reduce(std::span<double> data, ReduceOp op, const char* name) override;
  void all_reduce(std::span<int64_t> data, ReduceOp op, const char* name) override;
  void reduce_scatter(std::span<float> data, std::span<const int64_t> counts,
                      const char* name) override;
  std::unique_ptr<Pending> start_reduce_scatter(std::span<float> data,
                                                std::span<const int64_t> counts,
                                                const char* name) override;
  void all_gather(std::span<std::byte> data, std::span<const int64_t> bytes,
                  const char* name) override;
  void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                  std::span<const int64_t> recv_rows, int64_t row_bytes, const char* name) override;
  void broadcast(std::span<std::byte> data, int root, const char* name) override;
  void barrier(const char* name) override;

  void send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
            const char* name) override;
  void await_sends(size_t newest, const char* name) override;
  void receive(std::span<std::byte> data, int from, const char* name) override;

  std::unique_ptr<Comm> subgroup(std::span<const int> ranks, const std::string& name) override;

  // Of the world alone (mpi_world.cc).
  void start_watchdog();
  bool all_failed(int exit_code, double seconds) override;
  [[noreturn]] void abort(int exit_code) override;
  void finish(int exit_code) override;

  Journal* journal() const override { return journal_.get(); }
  int journal_group() const override { return group_; }
  uint64_t order_digest() const override { return journal_->digest(group_); }

 private:
  struct PendingReduce;
  struct Sending {
    MPI_Request request;
    std::shared_ptr<const void> owner;
  };

  void reduce(void* data, int64_t count, MPI_Datatype type, int64_t element, ReduceOp op,
              const char* name);
  Journal::Operation begin(const char* name);
  // Starts an operation and polls it to its end.
  template <typename Start>
  void run(const char* name, const Start& start) {
    MPI_Request request;
    mpi_.check(start(&request), name);
    mpi_.wait({&request, 1}, name);
  }
  // Lets go of what has left.
  void reap_sends(const char* name);

  PolledComm mpi_;
  MPI_Comm failures_;
  std::string name_;
  std::vector<int> world_ranks_;
  std::shared_ptr<Journal> journal_;    // of the process, shared by all communicators of it
  int group_;                           // in the journal
  std::unique_ptr<Watchdog> watchdog_;  // the world's
  std::vector<Sending> sending_;
};

}  // namespace sutor
