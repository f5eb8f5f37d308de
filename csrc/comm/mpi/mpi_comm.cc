// MpiComm: collectives over MPI. Only non-blocking operations are used, polled with a yield and
// then a short sleep: with more ranks than cores MPICH's blocking calls cost whole scheduler ticks.
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>

#include "csrc/base/error.h"
#include "csrc/comm/comm.h"
#include "csrc/comm/journal.h"
#include "csrc/comm/wait_limit.h"
#include "csrc/comm/watchdog/exit_report.h"
#include "csrc/comm/watchdog/watchdog.h"

namespace sutor {
namespace {

// A count of MPI is an int; longer messages go in pieces of this many elements.
constexpr int64_t kPiece = int64_t{1} << 26;

// A watchdog that runs has this much time to report a long wait before the rank itself gives up.
constexpr double kWatchdogFirst = 15;

MPI_Op mpi_op(ReduceOp op) {
  return op == ReduceOp::kSum ? MPI_SUM : op == ReduceOp::kMax ? MPI_MAX : MPI_MIN;
}

class MpiComm final : public Comm {
 public:
  // world_ranks: of this communicator's ranks. failures: a duplicate that nothing but all_failed()
  // uses, or MPI_COMM_NULL.
  MpiComm(MPI_Comm comm, std::string name, std::vector<int> world_ranks,
          std::shared_ptr<Journal> journal, MPI_Comm failures = MPI_COMM_NULL)
      : comm_(comm),
        failures_(failures),
        name_(std::move(name)),
        world_ranks_(std::move(world_ranks)),
        journal_(std::move(journal)),
        group_(journal_->add_group(name_, world_ranks_)) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  // Communicators end with MPI_Finalize: freeing one is collective, and a rank that unwinds after
  // an error of its own must not wait for the others.

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }

  void all_reduce(std::span<float> d, ReduceOp op, const char* name) override {
    reduce(d.data(), static_cast<int64_t>(d.size()), MPI_FLOAT, 4, op, name);
  }
  void all_reduce(std::span<double> d, ReduceOp op, const char* name) override {
    reduce(d.data(), static_cast<int64_t>(d.size()), MPI_DOUBLE, 8, op, name);
  }
  void all_reduce(std::span<int64_t> d, ReduceOp op, const char* name) override {
    reduce(d.data(), static_cast<int64_t>(d.size()), MPI_INT64_T, 8, op, name);
  }

  void reduce_scatter(std::span<float> data, std::span<const int64_t> counts,
                      const char* name) override {
    const Journal::Operation operation = begin(name);
    std::vector<int64_t> begins(size_, 0);
    std::exclusive_scan(counts.begin(), counts.end(), begins.begin(), int64_t{0});
    const int64_t longest = *std::max_element(counts.begin(), counts.end());
    const int64_t piece = std::max<int64_t>(1, kPiece / size_);
    std::vector<float> staging, result;
    for (int64_t at = 0; at < longest; at += piece) {
      std::vector<int> take(size_);
      staging.clear();
      for (int r = 0; r < size_; ++r) {
        take[r] = static_cast<int>(std::clamp<int64_t>(counts[r] - at, 0, piece));
        const float* from = data.data() + begins[r] + at;
        staging.insert(staging.end(), from, from + take[r]);
      }
      result.resize(take[rank_]);
      wait(name, [&](MPI_Request* request) {
        return MPI_Ireduce_scatter(staging.data(), result.data(), take.data(), MPI_FLOAT, MPI_SUM,
                                   comm_, request);
      });
      std::copy(result.begin(), result.end(), data.begin() + begins[rank_] + at);
    }
  }

  std::unique_ptr<Pending> start_reduce_scatter(std::span<float> data,
                                                std::span<const int64_t> counts,
                                                const char* name) override {
    // What MPI cannot count in one operation goes in pieces, one after the other.
    if (static_cast<int64_t>(data.size()) > kPiece) {
      return Comm::start_reduce_scatter(data, counts, name);
    }
    const Journal::Operation operation = begin(name);
    auto pending = std::make_unique<PendingReduce>(*this, name);
    std::vector<int64_t> begins(size_, 0);
    std::exclusive_scan(counts.begin(), counts.end(), begins.begin(), int64_t{0});
    pending->counts.assign(counts.begin(), counts.end());
    pending->result.resize(static_cast<size_t>(counts[rank_]));
    pending->into = data.data() + begins[rank_];
    check(MPI_Ireduce_scatter(data.data(), pending->result.data(), pending->counts.data(),
                              MPI_FLOAT, MPI_SUM, comm_, &pending->request),
          name);
    return pending;
  }

  void all_gather(std::span<std::byte> data, std::span<const int64_t> bytes,
                  const char* name) override {
    const Journal::Operation operation = begin(name);
    int64_t at = 0;
    for (int r = 0; r < size_; ++r) {
      broadcast_bytes(data.subspan(static_cast<size_t>(at), static_cast<size_t>(bytes[r])), r,
                      name);
      at += bytes[r];
    }
  }

  void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                  std::span<const int64_t> recv_rows, int64_t row_bytes,
                  const char* name) override {
    const Journal::Operation operation = begin(name);
    std::vector<int> send_counts(size_), recv_counts(size_), send_at(size_), recv_at(size_);
    const auto fill = [&](std::span<const int64_t> rows, std::vector<int>& counts,
                          std::vector<int>& at) {
      int64_t total = 0;
      for (int r = 0; r < size_; ++r) {
        counts[r] = static_cast<int>(rows[r]);
        at[r] = static_cast<int>(total);
        total += rows[r];
      }
      if (total > INT32_MAX) {
        fail(ErrorCode::kExchangeTooLarge, "{}: {} rows in one exchange are beyond MPI", name,
             total);
      }
    };
    fill(send_rows, send_counts, send_at);
    fill(recv_rows, recv_counts, recv_at);
    MPI_Datatype row;
    MPI_Type_contiguous(static_cast<int>(row_bytes), MPI_BYTE, &row);
    MPI_Type_commit(&row);
    wait(name, [&](MPI_Request* request) {
      return MPI_Ialltoallv(send, send_counts.data(), send_at.data(), row, recv, recv_counts.data(),
                            recv_at.data(), row, comm_, request);
    });
    MPI_Type_free(&row);
  }

  void broadcast(std::span<std::byte> data, int root, const char* name) override {
    const Journal::Operation operation = begin(name);
    broadcast_bytes(data, root, name);
  }

  void barrier(const char* name) override {
    const Journal::Operation operation = begin(name);
    wait(name, [&](MPI_Request* request) { return MPI_Ibarrier(comm_, request); });
  }

  void send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
            const char* name) override {
    const Journal::Operation operation(*journal_, group_, OperationKind::kSend, name, to);
    for (size_t at = 0; at < data.size(); at += kPiece) {
      const size_t n = std::min<size_t>(kPiece, data.size() - at);
      MPI_Request request;
      check(MPI_Isend(data.data() + at, static_cast<int>(n), MPI_BYTE, to, /*tag=*/0, comm_,
                      &request),
            name);
      sending_.push_back({request, owner});
    }
    reap_sends(name);
  }

  void await_sends(size_t newest, const char* name) override {
    while (sending_.size() > newest) {
      wait(name, sending_.front().request);
      sending_.erase(sending_.begin());
    }
  }

  void receive(std::span<std::byte> data, int from, const char* name) override {
    const Journal::Operation operation(*journal_, group_, OperationKind::kReceive, name, from);
    for (size_t at = 0; at < data.size(); at += kPiece) {
      const size_t n = std::min<size_t>(kPiece, data.size() - at);
      wait(name, [&](MPI_Request* request) {
        return MPI_Irecv(data.data() + at, static_cast<int>(n), MPI_BYTE, from, /*tag=*/0, comm_,
                         request);
      });
    }
    reap_sends(name);
  }

  std::unique_ptr<Comm> subgroup(std::span<const int> ranks, const std::string& name) override {
    if (ranks.size() == 1) return make_self_comm()->subgroup(ranks, name);
    MPI_Group all, some;
    MPI_Comm part;
    check(MPI_Comm_group(comm_, &all), "subgroup");
    check(MPI_Group_incl(all, static_cast<int>(ranks.size()), ranks.data(), &some), "subgroup");
    check(MPI_Comm_create_group(comm_, some, /*tag=*/0, &part), "subgroup");
    MPI_Group_free(&some);
    MPI_Group_free(&all);
    std::vector<int> world_ranks;
    for (const int r : ranks) world_ranks.push_back(world_ranks_[static_cast<size_t>(r)]);
    return std::make_unique<MpiComm>(part, name, std::move(world_ranks), journal_);
  }

  void start_watchdog() { watchdog_ = Watchdog::start(*this, *journal_); }

  bool all_failed(int exit_code, double seconds) override {
    if (watchdog_) watchdog_->failing(exit_code);
    if (failures_ == MPI_COMM_NULL) return false;
    MPI_Request request;
    if (MPI_Ibarrier(failures_, &request) != MPI_SUCCESS) return false;
    const auto begin = std::chrono::steady_clock::now();
    for (int done = 0; !done;) {
      if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
      const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
      if (!done && waited.count() > seconds) return false;
      sched_yield();
    }
    return true;
  }

  void finish(int exit_code) override {
    if (watchdog_) watchdog_->failing(0);
    barrier("finish");
    journal_->write_if_asked();
    if (watchdog_) watchdog_->finalizing(exit_code);
    MPI_Finalize();
    if (watchdog_) watchdog_->deregister();
  }

  Journal* journal() const override { return journal_.get(); }
  uint64_t order_digest() const override { return journal_->digest(group_); }

  [[noreturn]] void abort(int exit_code) override {
    if (watchdog_) watchdog_->aborting(exit_code);
    wait_until_forwarded();  // hydra loses what it reads while it kills
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  void reduce(void* data, int64_t count, MPI_Datatype type, int64_t element, ReduceOp op,
              const char* name) {
    const Journal::Operation operation = begin(name);
    for (int64_t at = 0; at < count; at += kPiece) {
      const int n = static_cast<int>(std::min(kPiece, count - at));
      wait(name, [&](MPI_Request* request) {
        return MPI_Iallreduce(MPI_IN_PLACE, static_cast<std::byte*>(data) + at * element, n, type,
                              mpi_op(op), comm_, request);
      });
    }
  }

  Journal::Operation begin(const char* name) {
    return Journal::Operation(*journal_, group_, OperationKind::kCollective, name);
  }

  void broadcast_bytes(std::span<std::byte> data, int root, const char* name) {
    for (size_t at = 0; at < data.size(); at += kPiece) {
      const size_t n = std::min<size_t>(kPiece, data.size() - at);
      wait(name, [&](MPI_Request* request) {
        return MPI_Ibcast(data.data() + at, static_cast<int>(n), MPI_BYTE, root, comm_, request);
      });
    }
  }

  // Starts an operation and polls it to its end: a few tests, then yields, then sleeps of 1 us.
  template <typename Start>
  void wait(const char* name, const Start& start) {
    MPI_Request request;
    check(start(&request), name);
    wait(name, request);
  }

  void wait(const char* name, MPI_Request& request) {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t tries = 0;; ++tries) {
      int done = 0;
      check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), name);
      if (done) return;
      if (tries < 50) {
        sched_yield();
        continue;
      }
      const timespec pause{0, 1000};
      nanosleep(&pause, nullptr);
      if (tries % 4096 == 0) {
        const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
        // The watchdog says more about it, and earlier.
        static const double limit = wait_limit_seconds() + kWatchdogFirst;
        if (waited.count() > limit) {
          fail(ErrorCode::kCommTimeout,
               "rank {} of {} waited {:.0f} s in `{}` for the other ranks. One of them is stuck or "
               "gone (SUTOR_COMM_TIMEOUT sets the limit in seconds).",
               rank_, size_, waited.count(), name);
        }
      }
    }
  }

  void check(int result, const char* name) {
    if (result == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(result, text, &length);
    fail(ErrorCode::kMpiFailed, "MPI failed in `{}` on rank {}: {}", name, rank_, text);
  }

  // Lets go of what has left.
  void reap_sends(const char* name) {
    std::erase_if(sending_, [&](Sending& sending) {
      int done = 0;
      check(MPI_Test(&sending.request, &done, MPI_STATUS_IGNORE), name);
      return done != 0;
    });
  }

  struct PendingReduce final : Pending {
    PendingReduce(MpiComm& comm, const char* name) : comm(comm), name(name) {}
    void progress() override {
      int done = 0;  // a request that is done becomes MPI_REQUEST_NULL, which is done as well
      comm.check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), name);
    }
    void finish() override {
      // A step of the group again: who waits here says so, and for whom.
      const Journal::Operation operation = comm.begin(name);
      comm.wait(name, request);
      std::copy(result.begin(), result.end(), into);
    }
    MpiComm& comm;
    const char* name;
    std::vector<int> counts;
    std::vector<float> result;
    float* into = nullptr;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  struct Sending {
    MPI_Request request;
    std::shared_ptr<const void> owner;
  };

  MPI_Comm comm_, failures_;
  std::string name_;
  std::vector<int> world_ranks_;
  std::shared_ptr<Journal> journal_;    // of the process, shared by all communicators of it
  int group_;                           // in the journal
  std::unique_ptr<Watchdog> watchdog_;  // the world's
  int rank_ = 0, size_ = 1;
  std::vector<Sending> sending_;
};

// With -disable-auto-cleanup hydra sends SIGUSR1 to the others when a rank has died, which would
// end them before they can say so.
void ignore_hydras_signal() {
  struct sigaction now {};
  sigaction(SIGUSR1, nullptr, &now);
  if (now.sa_handler != SIG_DFL) return;
  now.sa_handler = [](int) {};
  now.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &now, nullptr);
}

}  // namespace

std::unique_ptr<Comm> make_world_comm() {
  const char* size = std::getenv("PMI_SIZE");
  if (size == nullptr || std::atoi(size) <= 1) return make_self_comm();
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  ignore_hydras_signal();
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm failures;
  MPI_Comm_dup(MPI_COMM_WORLD, &failures);
  MPI_Comm_set_errhandler(failures, MPI_ERRORS_RETURN);
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  std::vector<int> all(static_cast<size_t>(ranks));
  std::iota(all.begin(), all.end(), 0);
  auto world = std::make_unique<MpiComm>(MPI_COMM_WORLD, "world", std::move(all),
                                         std::make_shared<Journal>(rank), failures);
  world->start_watchdog();
  return world;
}

}  // namespace sutor
