// Communicator: the collectives that sutor uses, on plain host memory; with nccl/nccl_comm.h also
// on the memory of GPUs. Every call except rank(), size() and name() is collective over the
// communicator: all its ranks call it in the same order.
// Every operation has a name, for diagnosis. With one rank each operation returns at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sutor {

class Journal;

enum class ReduceOp { kSum, kMax, kMin };

class Comm {
 public:
  virtual ~Comm() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The purpose of the group: world, ep, dp-cp ...
  virtual const std::string& name() const = 0;

  // In place. Sums of floats are taken in an order fixed by the communicator's size.
  virtual void all_reduce(std::span<float> data, ReduceOp op, const char* name) = 0;
  virtual void all_reduce(std::span<double> data, ReduceOp op, const char* name) = 0;
  virtual void all_reduce(std::span<int64_t> data, ReduceOp op, const char* name) = 0;

  // `data` holds the concatenated chunks of all ranks, counts[r] floats each. On return this rank's
  // own chunk holds the sum over ranks; the others are undefined.
  virtual void reduce_scatter(std::span<float> data, std::span<const int64_t> counts,
                              const char* name) = 0;
  // Starts the same operation: the other ranks' chunks arrive while the caller goes on, and the
  // result is there when finish() returns. `data` must not change until then. All ranks start and
  // finish such operations in the same order; in between they may call others.
  class Pending {
   public:
    virtual ~Pending() = default;
    virtual void progress() = 0;  // advances it, without waiting
    virtual void finish() = 0;    // once
  };
  virtual std::unique_ptr<Pending> start_reduce_scatter(std::span<float> data,
                                                        std::span<const int64_t> counts,
                                                        const char* name);

  // `data` has room for the chunks of all ranks, bytes[r] each, and holds this rank's own one;
  // fills in the others.
  virtual void all_gather(std::span<std::byte> data, std::span<const int64_t> bytes,
                          const char* name) = 0;
  // Exchanges rows of `row_bytes` bytes: send_rows[r] rows go to rank r, recv_rows[r] come from it;
  // both buffers are in rank order.
  virtual void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                          std::span<const int64_t> recv_rows, int64_t row_bytes,
                          const char* name) = 0;
  virtual void broadcast(std::span<std::byte> data, int root, const char* name) = 0;
  virtual void barrier(const char* name) = 0;

  // Point to point, not collective: messages between two ranks arrive in the order of sending. A
  // send returns at once; `owner` keeps the data alive until they have left. Both sides know the
  // size.
  virtual void send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
                    const char* name) = 0;
  // Waits until all sends except at most the `newest` last ones have left.
  virtual void await_sends(size_t newest, const char* name) = 0;
  virtual void receive(std::span<std::byte> data, int from, const char* name) = 0;

  // A communicator of these ranks of this one, in this order. Collective over those ranks only.
  virtual std::unique_ptr<Comm> subgroup(std::span<const int> ranks, const std::string& name) = 0;

  // For a rank that failed: tells the other ranks that it is about to end the job with this exit
  // code, then waits until all have called this too. False when they do not within `seconds`, so
  // that this error is not common to all.
  virtual bool all_failed(int exit_code, double seconds) = 0;
  // Ends the whole job with this exit code, without waiting.
  [[noreturn]] virtual void abort(int exit_code) = 0;
  // The last call, collective, on the world only: waits for all ranks and ends communication.
  // Afterwards the caller only ends with this exit code; where MPI does not finish, the process
  // ends here.
  virtual void finish(int exit_code) = 0;

  // The operations of all groups of this process; null for a communicator of one.
  virtual Journal* journal() const = 0;
  // This group's index there.
  virtual int journal_group() const { return 0; }
  // A digest of the operations of this group so far, in order: equal on all its ranks between
  // operations.
  virtual uint64_t order_digest() const = 0;

  // Strings of any length, by the operations above.
  std::string broadcast_text(const std::string& text, int root, const char* name);
  std::vector<std::string> all_gather_text(const std::string& text, const char* name);
};

std::unique_ptr<Comm> make_self_comm();

// The communicator of all ranks of the job: over MPI when a launcher started more than one process
// (PMI_SIZE), else a communicator of one. Initialises MPI where it is used; Comm::finish()
// finalizes it. In between a watchdog (watchdog.h) ends the job when a rank dies or stops.
std::unique_ptr<Comm> make_world_comm();

}  // namespace sutor
