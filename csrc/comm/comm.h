// Communicator: the collectives that sutor uses, on plain host memory. Every call but rank(),
// size() and name() is collective over the communicator: all its ranks call it in the same order.
// Every operation carries a name, for diagnosis. With one rank each returns at once.
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
  // What the group is for: world, ep, dp-cp ...
  virtual const std::string& name() const = 0;

  // In place. Sums of floats are taken in an order fixed by the communicator's size.
  virtual void all_reduce(std::span<float> data, ReduceOp op, const char* name) = 0;
  virtual void all_reduce(std::span<double> data, ReduceOp op, const char* name) = 0;
  virtual void all_reduce(std::span<int64_t> data, ReduceOp op, const char* name) = 0;

  // `data` holds the concatenated segments of all ranks, counts[r] floats each. On return this
  // rank's own segment holds the sum over ranks; the others are undefined.
  virtual void reduce_scatter(std::span<float> data, std::span<const int64_t> counts,
                              const char* name) = 0;
  // The same, begun: the other ranks' parts come while the caller goes on, and the result is there
  // when finish() returned. `data` must stay as it is until then. All ranks begin and finish such
  // operations in the same order; in between they may call others.
  class Pending {
   public:
    virtual ~Pending() = default;
    virtual void progress() = 0;  // moves it on, without waiting
    virtual void finish() = 0;    // once
  };
  virtual std::unique_ptr<Pending> start_reduce_scatter(std::span<float> data,
                                                        std::span<const int64_t> counts,
                                                        const char* name);

  // `data` holds the segments of all ranks, bytes[r] each, its own one filled in; fills the others.
  virtual void all_gather(std::span<std::byte> data, std::span<const int64_t> bytes,
                          const char* name) = 0;
  // Rows of `row_bytes` bytes; send_rows[r] rows go to rank r (stored in rank order), recv_rows[r]
  // come from it.
  virtual void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                          std::span<const int64_t> recv_rows, int64_t row_bytes,
                          const char* name) = 0;
  virtual void broadcast(std::span<std::byte> data, int root, const char* name) = 0;
  virtual void barrier(const char* name) = 0;

  // Point to point, not collective: messages between two ranks arrive in the order of sending. A
  // send returns at once; `owner` keeps the data alive until it has left. Both sides know the size.
  virtual void send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
                    const char* name) = 0;
  // Waits until at most the `newest` last sends have not left.
  virtual void await_sends(size_t newest, const char* name) = 0;
  virtual void receive(std::span<std::byte> data, int from, const char* name) = 0;

  // A communicator of these ranks of this one, in this order. Collective over them alone.
  virtual std::unique_ptr<Comm> subgroup(std::span<const int> ranks, const std::string& name) = 0;

  // For a rank that failed: tells the other ranks that it is about to end the job with this exit
  // code, then waits until all have called this too. False when they have not within `seconds`, so
  // that this error is not everybody's.
  virtual bool all_failed(int exit_code, double seconds) = 0;
  // Ends the whole job with this exit code, without waiting for anybody.
  [[noreturn]] virtual void abort(int exit_code) = 0;
  // The last call, collective, of the world alone: waits for all ranks and ends communication. The
  // caller does nothing but end with this exit code afterwards: where MPI does not come to its end,
  // the process ends here.
  virtual void finish(int exit_code) = 0;

  // What was asked of this group and all others of this process; none where there is nobody else.
  virtual Journal* journal() const = 0;
  // Of the operations of this group so far, in order: equal on all its ranks between operations.
  virtual uint64_t order_digest() const = 0;

  // Strings of any length, by way of the above.
  std::string broadcast_text(const std::string& text, int root, const char* name);
  std::vector<std::string> all_gather_text(const std::string& text, const char* name);
};

std::unique_ptr<Comm> make_self_comm();

// The communicator of all ranks of the job: MPI when a launcher started more than one process
// (PMI_SIZE), else a communicator of one. Initialises MPI where it is used; Comm::finish() ends it.
// Between the two a watchdog (watchdog.h) ends the job when a rank dies or stops.
std::unique_ptr<Comm> make_world_comm();

}  // namespace sutor
