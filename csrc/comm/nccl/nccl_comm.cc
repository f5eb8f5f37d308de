#include "csrc/comm/nccl/nccl_comm.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <numeric>
#include <optional>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/comm/nccl/comm_stream.h"
#include "csrc/comm/nccl/nccl_calls.h"
#include "csrc/comm/nccl/nccl_collectives.h"
#include "csrc/comm/nccl/nccl_messages.h"

namespace sutor {
namespace {

using nccl::check;
using nccl::CommStream;
using nccl::Event;

ncclRedOp_t nccl_op(ReduceOp op) {
  return op == ReduceOp::kSum ? ncclSum : op == ReduceOp::kMax ? ncclMax : ncclMin;
}

int64_t sum_of(std::span<const int64_t> sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
}

// Common to all groups of a rank.
struct RankContext {
  Comm& control;  // of the whole job: for failures
  const int device;
  CommStream stream;
};

// An operation in the journal of its group, where there is one.
class Entry {
 public:
  Entry(const Comm& group, OperationKind kind, const char* name, int peer = -1) {
    Journal* journal = group.journal();
    if (journal) operation_.emplace(*journal, group.journal_group(), kind, name, peer);
  }
  // It ends when the stream has done what it has got so far.
  void end_after(CommStream& stream, const char* name) {
    if (operation_) stream.hand_over(*operation_, name);
  }

 private:
  std::optional<Journal::Operation> operation_;
};

class NcclComm final : public Comm {
 public:
  // NCCL's communicators end with the process: ending one waits for the other ranks, and a rank
  // that unwinds after an error of its own must not.
  NcclComm(std::shared_ptr<RankContext> context, std::unique_ptr<Comm> control)
      : context_(std::move(context)),
        control_(std::move(control)),
        messages_(context_->stream, *control_, context_->device) {
    if (size() == 1) return;
    ncclUniqueId id{};
    if (rank() == 0) check(ncclGetUniqueId(&id), newest_.c_str());
    control_->broadcast(std::as_writable_bytes(std::span(&id, 1)), 0, "id of NCCL");
    const Entry entry(*this, OperationKind::kCollective, newest_.c_str());
    check(ncclCommInitRank(&comm_, size(), id, rank()), newest_.c_str());
  }

  int rank() const override { return control_->rank(); }
  int size() const override { return control_->size(); }
  const std::string& name() const override { return control_->name(); }

  void all_reduce(std::span<float> data, ReduceOp op, const char* name) override {
    reduce(data, ncclFloat32, op, name);
  }
  void all_reduce(std::span<double> data, ReduceOp op, const char* name) override {
    reduce(data, ncclFloat64, op, name);
  }
  void all_reduce(std::span<int64_t> data, ReduceOp op, const char* name) override {
    reduce(data, ncclInt64, op, name);
  }

  void reduce_scatter(std::span<float> data, std::span<const int64_t> counts,
                      const char* name) override {
    if (!over_nccl(data.data(), data.size_bytes())) {
      return control_->reduce_scatter(data, counts, name);
    }
    issue(name, [&] { nccl::reduce_scatter(channel(), data.data(), counts, name); });
    stream().lead_compute(name);
  }

  std::unique_ptr<Pending> start_reduce_scatter(std::span<float> data,
                                                std::span<const int64_t> counts,
                                                const char* name) override {
    if (!over_nccl(data.data(), data.size_bytes())) {
      return control_->start_reduce_scatter(data, counts, name);
    }
    issue(name, [&] { nccl::reduce_scatter(channel(), data.data(), counts, name); });
    stream().record(data.data());
    return std::make_unique<Reducing>(*this, name);
  }

  void all_gather(std::span<std::byte> data, std::span<const int64_t> bytes,
                  const char* name) override {
    if (!over_nccl(data.data(), data.size())) return control_->all_gather(data, bytes, name);
    issue(name, [&] { nccl::all_gather(channel(), data.data(), bytes, name); });
    stream().lead_compute(name);
  }

  void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                  std::span<const int64_t> recv_rows, int64_t row_bytes,
                  const char* name) override {
    const int64_t out = sum_of(send_rows) * row_bytes, in = sum_of(recv_rows) * row_bytes;
    if (out == 0 && in == 0) {
      const Entry entry(*this, OperationKind::kCollective, name);
      return;
    }
    const bool device = nccl::is_on_device(out > 0 ? send : recv);
    SUTOR_ASSERT(in == 0 || out == 0 || nccl::is_on_device(recv) == device);
    if (!device) {
      return control_->all_to_all(send, send_rows, recv, recv_rows, row_bytes, name);
    }
    if (size() == 1) {
      const auto bytes = static_cast<size_t>(out);
      const cudaStream_t compute = stream().compute();
      return check(cudaMemcpyAsync(recv, send, bytes, cudaMemcpyDeviceToDevice, compute), name);
    }
    issue(name, [&] {
      nccl::all_to_all(channel(), static_cast<const std::byte*>(send), send_rows,
                       static_cast<std::byte*>(recv), recv_rows, row_bytes, name);
    });
    stream().lead_compute(name);
  }

  void broadcast(std::span<std::byte> data, int root, const char* name) override {
    if (!over_nccl(data.data(), data.size())) return control_->broadcast(data, root, name);
    issue(name, [&] {
      check(ncclBroadcast(data.data(), data.data(), data.size(), ncclUint8, root, comm_,
                          stream().get()),
            name);
    });
    stream().lead_compute(name);
  }

  void barrier(const char* name) override {
    if (size() > 1) nccl::wait(stream().get(), comm_, newest_, name);
    control_->barrier(name);
  }

  void send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
            const char* name) override {
    SUTOR_ASSERT(to != rank());
    const bool device = over_nccl(data.data(), data.size());
    sent_over_nccl_.push_back(device);
    if (!device) return control_->send(data, to, std::move(owner), name);
    const Entry entry(*this, OperationKind::kSend, name, to);
    messages_.send(data, to, std::move(owner), name);
  }

  void await_sends(size_t newest, const char* name) override {
    while (sent_over_nccl_.size() > newest) sent_over_nccl_.pop_front();
    const auto device = std::count(sent_over_nccl_.begin(), sent_over_nccl_.end(), true);
    messages_.await_sends(static_cast<size_t>(device));
    control_->await_sends(sent_over_nccl_.size() - static_cast<size_t>(device), name);
  }

  void receive(std::span<std::byte> data, int from, const char* name) override {
    SUTOR_ASSERT(from != rank());
    if (!over_nccl(data.data(), data.size())) return control_->receive(data, from, name);
    Entry entry(*this, OperationKind::kReceive, name, from);
    messages_.receive(data, from, name);
    entry.end_after(stream(), name);
  }

  // By an id of its own: ncclCommSplit would be collective over all ranks of this one.
  std::unique_ptr<Comm> subgroup(std::span<const int> ranks, const std::string& name) override {
    return std::make_unique<NcclComm>(context_, control_->subgroup(ranks, name));
  }

  bool all_failed(int exit_code, double seconds) override {
    return context_->control.all_failed(exit_code, seconds);
  }
  [[noreturn]] void abort(int exit_code) override {
    context_->control.abort(exit_code);
    std::_Exit(exit_code);
  }
  void finish(int exit_code) override { context_->control.finish(exit_code); }
  // Both worlds of a group are one there.
  Journal* journal() const override { return control_->journal(); }
  int journal_group() const override { return control_->journal_group(); }
  uint64_t order_digest() const override { return control_->order_digest(); }

 private:
  struct Reducing final : Comm::Pending {
    Reducing(NcclComm& comm, const char* name)
        : comm(comm), name(name), done(comm.stream().get(), name) {}
    void progress() override {}  // the GPU needs no help
    void finish() override {
      const Entry entry(comm, OperationKind::kCollective, name);
      nccl::check_state(comm.comm_, comm.newest_, name);
      done.hold_back(comm.stream().compute(), name);
    }

    NcclComm& comm;
    const char* name;
    const Event done;
  };

  CommStream& stream() { return context_->stream; }
  nccl::Channel channel() { return {comm_, rank(), stream().get()}; }

  // False also without data: nothing is to be done, and only the journal hears of it.
  bool over_nccl(const void* data, size_t bytes) const {
    return size() > 1 && bytes > 0 && nccl::is_on_device(data);
  }

  // Enqueues a collective after what the compute stream has got so far.
  template <typename Enqueue>
  void issue(const char* name, const Enqueue& enqueue) {
    Entry entry(*this, OperationKind::kCollective, name);
    nccl::check_state(comm_, newest_, name);
    newest_ = name;
    stream().follow_compute(name);
    enqueue();
    entry.end_after(stream(), name);
  }

  template <typename T>
  void reduce(std::span<T> data, ncclDataType_t type, ReduceOp op, const char* name) {
    if (!over_nccl(data.data(), data.size_bytes())) return control_->all_reduce(data, op, name);
    issue(name, [&] {
      check(ncclAllReduce(data.data(), data.data(), data.size(), type, nccl_op(op), comm_,
                          stream().get()),
            name);
    });
    stream().lead_compute(name);
  }

  const std::shared_ptr<RankContext> context_;
  const std::unique_ptr<Comm> control_;   // of these ranks; nothing else uses it
  ncclComm_t comm_ = nullptr;             // null with one rank
  std::string newest_ = "start of NCCL";  // operation
  nccl::Messages messages_;
  std::deque<bool> sent_over_nccl_;  // the sends that no await_sends() has covered
};

}  // namespace

std::unique_ptr<Comm> make_nccl_comm(Comm& control, int device, const DeviceHooks& hooks) {
  check(cudaSetDevice(device), "start of NCCL");
  std::shared_ptr<RankContext> context(
      new RankContext{control, device, CommStream(hooks, control.journal())});
  std::vector<int> ranks(control.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return std::make_unique<NcclComm>(context, control.subgroup(ranks, control.name()));
}

}  // namespace sutor
