#include "csrc/comm/mpi/mpi_comm.h"

#include <algorithm>
#include <numeric>

#include "csrc/base/error.h"
#include "csrc/comm/mpi/mpi_segments.h"

namespace sutor {
namespace {

// A count of MPI is an int; longer messages go in chunks of this many elements.
constexpr int64_t kChunk = int64_t{1} << 26;

MPI_Op mpi_op(ReduceOp op) {
  return op == ReduceOp::kSum ? MPI_SUM : op == ReduceOp::kMax ? MPI_MAX : MPI_MIN;
}

}  // namespace

MpiComm::MpiComm(MPI_Comm comm, std::string name, std::vector<int> world_ranks,
                 std::shared_ptr<Journal> journal, MPI_Comm failures)
    : mpi_(comm),
      failures_(failures),
      name_(std::move(name)),
      world_ranks_(std::move(world_ranks)),
      journal_(std::move(journal)),
      group_(journal_->add_group(name_, world_ranks_)) {}

Journal::Operation MpiComm::begin(const char* name) {
  return Journal::Operation(*journal_, group_, OperationKind::kCollective, name);
}

void MpiComm::all_reduce(std::span<float> data, ReduceOp op, const char* name) {
  reduce(data.data(), static_cast<int64_t>(data.size()), MPI_FLOAT, 4, op, name);
}
void MpiComm::all_reduce(std::span<double> data, ReduceOp op, const char* name) {
  reduce(data.data(), static_cast<int64_t>(data.size()), MPI_DOUBLE, 8, op, name);
}
void MpiComm::all_reduce(std::span<int64_t> data, ReduceOp op, const char* name) {
  reduce(data.data(), static_cast<int64_t>(data.size()), MPI_INT64_T, 8, op, name);
}

void MpiComm::reduce(void* data, int64_t count, MPI_Datatype type, int64_t element, ReduceOp op,
                     const char* name) {
  const Journal::Operation operation = begin(name);
  for (int64_t at = 0; at < count; at += kChunk) {
    const int n = static_cast<int>(std::min(kChunk, count - at));
    run(name, [&](MPI_Request* request) {
      return MPI_Iallreduce(MPI_IN_PLACE, static_cast<std::byte*>(data) + at * element, n, type,
                            mpi_op(op), mpi_.comm, request);
    });
  }
}

struct MpiComm::PendingReduce final : Comm::Pending {
  PendingReduce(MpiComm& comm, std::span<float> data, std::span<const int64_t> counts,
                const char* name)
      : comm(comm), name(name), own(static_cast<size_t>(counts[comm.rank()])) {
    into = data.data() + std::accumulate(counts.begin(), counts.begin() + comm.rank(), int64_t{0});
    begun = begin_reduce_scatter(comm.mpi_, data, counts, own, name);
  }
  void progress() override { comm.mpi_.test(begun.requests, name); }
  void finish() override {
    // A step of the group again: who waits here says so, and for whom.
    const Journal::Operation operation = comm.begin(name);
    wait();
  }
  void wait() {
    comm.mpi_.wait(begun.requests, name);
    std::copy(own.begin(), own.end(), into);
  }

  MpiComm& comm;
  const char* name;
  std::vector<float> own;  // sums
  float* into = nullptr;
  SegmentRequests begun;
};

void MpiComm::reduce_scatter(std::span<float> data, std::span<const int64_t> counts,
                             const char* name) {
  const Journal::Operation operation = begin(name);
  PendingReduce(*this, data, counts, name).wait();
}

std::unique_ptr<Comm::Pending> MpiComm::start_reduce_scatter(std::span<float> data,
                                                             std::span<const int64_t> counts,
                                                             const char* name) {
  const Journal::Operation operation = begin(name);
  return std::make_unique<PendingReduce>(*this, data, counts, name);
}

void MpiComm::all_gather(std::span<std::byte> data, std::span<const int64_t> bytes,
                         const char* name) {
  const Journal::Operation operation = begin(name);
  SegmentRequests begun = begin_all_gather(mpi_, data, bytes, name);
  mpi_.wait(begun.requests, name);
}

void MpiComm::all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                         std::span<const int64_t> recv_rows, int64_t row_bytes, const char* name) {
  const Journal::Operation operation = begin(name);
  const auto ranks = static_cast<size_t>(size());
  std::vector<int> send_counts(ranks), recv_counts(ranks), send_at(ranks), recv_at(ranks);
  const auto fill = [&](std::span<const int64_t> rows, std::vector<int>& counts,
                        std::vector<int>& at) {
    int64_t total = 0;
    for (size_t r = 0; r < ranks; ++r) {
      counts[r] = static_cast<int>(rows[r]);
      at[r] = static_cast<int>(total);
      total += rows[r];
    }
    if (total > INT32_MAX) {
      fail(ErrorCode::kExchangeTooLarge, "{}: {} rows in one exchange are beyond MPI", name, total);
    }
  };
  fill(send_rows, send_counts, send_at);
  fill(recv_rows, recv_counts, recv_at);
  MPI_Datatype row;
  MPI_Type_contiguous(static_cast<int>(row_bytes), MPI_BYTE, &row);
  MPI_Type_commit(&row);
  run(name, [&](MPI_Request* request) {
    return MPI_Ialltoallv(send, send_counts.data(), send_at.data(), row, recv, recv_counts.data(),
                          recv_at.data(), row, mpi_.comm, request);
  });
  MPI_Type_free(&row);
}

void MpiComm::broadcast(std::span<std::byte> data, int root, const char* name) {
  const Journal::Operation operation = begin(name);
  for (size_t at = 0; at < data.size(); at += kChunk) {
    const size_t n = std::min<size_t>(kChunk, data.size() - at);
    run(name, [&](MPI_Request* request) {
      return MPI_Ibcast(data.data() + at, static_cast<int>(n), MPI_BYTE, root, mpi_.comm, request);
    });
  }
}

void MpiComm::barrier(const char* name) {
  const Journal::Operation operation = begin(name);
  run(name, [&](MPI_Request* request) { return MPI_Ibarrier(mpi_.comm, request); });
}

void MpiComm::send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
                   const char* name) {
  const Journal::Operation operation(*journal_, group_, OperationKind::kSend, name, to);
  for (size_t at = 0; at < data.size(); at += kChunk) {
    const size_t n = std::min<size_t>(kChunk, data.size() - at);
    MPI_Request request;
    mpi_.check(MPI_Isend(data.data() + at, static_cast<int>(n), MPI_BYTE, to, /*tag=*/0, mpi_.comm,
                         &request),
               name);
    sending_.push_back({request, owner});
  }
  reap_sends(name);
}

void MpiComm::await_sends(size_t newest, const char* name) {
  while (sending_.size() > newest) {
    mpi_.wait({&sending_.front().request, 1}, name);
    sending_.erase(sending_.begin());
  }
}

void MpiComm::receive(std::span<std::byte> data, int from, const char* name) {
  const Journal::Operation operation(*journal_, group_, OperationKind::kReceive, name, from);
  for (size_t at = 0; at < data.size(); at += kChunk) {
    const size_t n = std::min<size_t>(kChunk, data.size() - at);
    run(name, [&](MPI_Request* request) {
      return MPI_Irecv(data.data() + at, static_cast<int>(n), MPI_BYTE, from, /*tag=*/0, mpi_.comm,
                       request);
    });
  }
  reap_sends(name);
}

void MpiComm::reap_sends(const char* name) {
  std::erase_if(sending_, [&](Sending& sending) { return mpi_.test({&sending.request, 1}, name); });
}

std::unique_ptr<Comm> MpiComm::subgroup(std::span<const int> ranks, const std::string& name) {
  if (ranks.size() == 1) return make_self_comm()->subgroup(ranks, name);
  MPI_Group all, some;
  MPI_Comm part;
  mpi_.check(MPI_Comm_group(mpi_.comm, &all), "subgroup");
  mpi_.check(MPI_Group_incl(all, static_cast<int>(ranks.size()), ranks.data(), &some), "subgroup");
  mpi_.check(MPI_Comm_create_group(mpi_.comm, some, /*tag=*/0, &part), "subgroup");
  MPI_Group_free(&some);
  MPI_Group_free(&all);
  std::vector<int> world_ranks;
  for (const int r : ranks) world_ranks.push_back(world_ranks_[static_cast<size_t>(r)]);
  return std::make_unique<MpiComm>(part, name, std::move(world_ranks), journal_);
}

}  // namespace sutor
