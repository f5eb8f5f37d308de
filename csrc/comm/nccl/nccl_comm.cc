#include "csrc/comm/nccl/nccl_comm.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <numeric>

#include "csrc/base/error.h"
#include "csrc/comm/nccl/nccl_calls.h"
#include "csrc/comm/nccl/nccl_sender.h"

namespace sutor {
namespace {

using nccl::check;
using nccl::DeviceBuffer;
using nccl::is_on_device;

ncclRedOp_t nccl_op(ReduceOp op) {
  return op == ReduceOp::kSum ? ncclSum : op == ReduceOp::kMax ? ncclMax : ncclMin;
}

// What all groups of a rank have in common.
struct RankContext {
  Comm& control;  // of the whole job: for failures
  int device = 0;
  cudaStream_t stream = nullptr;
};

// Operations between begin and end start together; an error in between ends the job anyway.
class Group {
 public:
  explicit Group(const char* name) : name_(name) { check(ncclGroupStart(), name); }
  void end() { check(ncclGroupEnd(), name_); }

 private:
  const char* name_;
};

std::vector<int64_t> begins_of(std::span<const int64_t> sizes) {
  std::vector<int64_t> begins(sizes.size());
  std::exclusive_scan(sizes.begin(), sizes.end(), begins.begin(), int64_t{0});
  return begins;
}

bool all_equal(std::span<const int64_t> sizes) {
  return std::all_of(sizes.begin(), sizes.end(), [&](int64_t n) { return n == sizes[0]; });
}

class NcclComm final : public Comm {
 public:
  // Communicators and buffers end with the process: ending one waits for the other ranks, and a
  // rank that unwinds after an error of its own must not.
  NcclComm(const RankContext& context, std::unique_ptr<Comm> control)
      : context_(context), control_(std::move(control)) {
    ncclUniqueId id{};
    if (rank() == 0) check(ncclGetUniqueId(&id), "start of NCCL");
    control_->broadcast(std::as_writable_bytes(std::span(&id, 1)), 0, "id of NCCL");
    check(ncclCommInitRank(&comm_, size(), id, rank()), "start of NCCL");
  }

  int rank() const override { return control_->rank(); }
  int size() const override { return control_->size(); }
  const std::string& name() const override { return control_->name(); }

  void all_reduce(std::span<float> data, ReduceOp op, const char* name) override {
    reduce(data.data(), data.size(), sizeof(float), ncclFloat32, op, name);
  }
  void all_reduce(std::span<double> data, ReduceOp op, const char* name) override {
    reduce(data.data(), data.size(), sizeof(double), ncclFloat64, op, name);
  }
  void all_reduce(std::span<int64_t> data, ReduceOp op, const char* name) override {
    reduce(data.data(), data.size(), sizeof(int64_t), ncclInt64, op, name);
  }

  void reduce_scatter(std::span<float> data, std::span<const int64_t> counts,
                      const char* name) override {
    const std::vector<int64_t> begins = begins_of(counts);
    in_place(data.data(), data.size_bytes(), name, [&](void* memory) {
      float* all = static_cast<float*>(memory);
      if (all_equal(counts)) {
        check(ncclReduceScatter(all, all + begins[rank()], counts[0], ncclFloat32, ncclSum, comm_,
                                context_.stream),
              name);
        return;
      }
      Group group(name);
      for (int r = 0; r < size(); ++r) {
        if (counts[r] == 0) continue;
        float* chunk = all + begins[r];
        check(ncclReduce(chunk, chunk, counts[r], ncclFloat32, ncclSum, r, comm_, context_.stream),
              name);
      }
      group.end();
    });
  }

  void all_gather(std::span<std::byte> data, std::span<const int64_t> bytes,
                  const char* name) override {
    const std::vector<int64_t> begins = begins_of(bytes);
    in_place(data.data(), data.size(), name, [&](void* memory) {
      std::byte* all = static_cast<std::byte*>(memory);
      if (all_equal(bytes)) {
        check(ncclAllGather(all + begins[rank()], all, bytes[0], ncclUint8, comm_, context_.stream),
              name);
        return;
      }
      Group group(name);
      for (int r = 0; r < size(); ++r) {
        if (bytes[r] == 0) continue;
        std::byte* chunk = all + begins[r];
        check(ncclBroadcast(chunk, chunk, bytes[r], ncclUint8, r, comm_, context_.stream), name);
      }
      group.end();
    });
  }

  void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                  std::span<const int64_t> recv_rows, int64_t row_bytes,
                  const char* name) override {
    const size_t send_bytes =
        std::accumulate(send_rows.begin(), send_rows.end(), int64_t{0}) * row_bytes;
    const size_t recv_bytes =
        std::accumulate(recv_rows.begin(), recv_rows.end(), int64_t{0}) * row_bytes;
    const bool send_staged = send_bytes > 0 && !is_on_device(send);
    const bool recv_staged = recv_bytes > 0 && !is_on_device(recv);
    const void* from = send;
    void* to = recv_staged ? received_.at_least(recv_bytes, name) : recv;
    if (send_staged) from = to_device(send, send_bytes, name);
    exchange(static_cast<const std::byte*>(from), send_rows, static_cast<std::byte*>(to), recv_rows,
             row_bytes, name);
    if (send_staged || recv_staged) wait(name);
    if (recv_staged) check(cudaMemcpy(recv, to, recv_bytes, cudaMemcpyDeviceToHost), name);
  }

  void broadcast(std::span<std::byte> data, int root, const char* name) override {
    in_place(data.data(), data.size(), name, [&](void* memory) {
      check(ncclBroadcast(memory, memory, data.size(), ncclUint8, root, comm_, context_.stream),
            name);
    });
  }

  void barrier(const char* name) override {
    wait(name);
    control_->barrier(name);
  }

  void send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
            const char* name) override {
    SUTOR_ASSERT(to != rank());
    forget_sent();
    if (data.empty()) return;
    std::vector<cudaEvent_t> ready;
    if (is_on_device(data.data())) {
      ready = {event_on(context_.stream, name), event_on(cudaStreamLegacy, name)};
    }
    sending_.push_back(sender_to(to).send(data, std::move(ready), std::move(owner), name));
  }

  void await_sends(size_t newest, const char* name) override {
    while (sending_.size() > newest) {
      sending_.front().get();  // throws what the thread met
      sending_.pop_front();
    }
  }

  void receive(std::span<std::byte> data, int from, const char* name) override {
    SUTOR_ASSERT(from != rank());
    forget_sent();
    if (data.empty()) return;
    const ncclComm_t link = link_from(from);
    const bool staged = !is_on_device(data.data());
    void* memory = staged ? received_.at_least(data.size(), name) : data.data();
    check(ncclRecv(memory, data.size(), ncclUint8, /*peer=*/0, link, context_.stream), name);
    if (!staged) return;
    nccl::wait(context_.stream, link, name);
    check(cudaMemcpy(data.data(), memory, data.size(), cudaMemcpyDeviceToHost), name);
  }

  // By an id of its own: ncclCommSplit would be collective over all ranks of this one.
  std::unique_ptr<Comm> subgroup(std::span<const int> ranks, const std::string& name) override {
    return std::make_unique<NcclComm>(context_, control_->subgroup(ranks, name));
  }

  bool all_failed(int exit_code, double seconds) override {
    return context_.control.all_failed(exit_code, seconds);
  }
  [[noreturn]] void abort(int exit_code) override {
    context_.control.abort(exit_code);
    std::_Exit(exit_code);
  }
  void finish(int exit_code) override { context_.control.finish(exit_code); }
  Journal* journal() const override { return context_.control.journal(); }
  uint64_t order_digest() const override { return control_->order_digest(); }

 private:
  // Calls `enqueue` with the data in device memory. All ranks have as many, so all return early.
  template <typename Enqueue>
  void in_place(void* data, size_t bytes, const char* name, const Enqueue& enqueue) {
    if (bytes == 0 || size() == 1) return;
    check_state(name);
    if (is_on_device(data)) return enqueue(data);
    void* memory = to_device(data, bytes, name);
    enqueue(memory);
    wait(name);
    check(cudaMemcpy(data, memory, bytes, cudaMemcpyDeviceToHost), name);
  }

  void reduce(void* data, size_t count, size_t element, ncclDataType_t type, ReduceOp op,
              const char* name) {
    in_place(data, count * element, name, [&](void* memory) {
      check(ncclAllReduce(memory, memory, count, type, nccl_op(op), comm_, context_.stream), name);
    });
  }

  void exchange(const std::byte* send, std::span<const int64_t> send_rows, std::byte* recv,
                std::span<const int64_t> recv_rows, int64_t row_bytes, const char* name) {
    check_state(name);
    Group group(name);
    for (int r = 0; r < size(); ++r) {
      const size_t out = send_rows[r] * row_bytes, in = recv_rows[r] * row_bytes;
      if (out > 0) check(ncclSend(send, out, ncclUint8, r, comm_, context_.stream), name);
      if (in > 0) check(ncclRecv(recv, in, ncclUint8, r, comm_, context_.stream), name);
      send += out;
      recv += in;
    }
    group.end();
  }

  void* to_device(const void* data, size_t bytes, const char* name) {
    void* memory = staging_.at_least(bytes, name);
    check(cudaMemcpyAsync(memory, data, bytes, cudaMemcpyHostToDevice, context_.stream), name);
    return memory;
  }

  // Of operations in device memory nobody waits here: the next call tells of their errors.
  void check_state(const char* name) {
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm_, &state), name);
    check(state, name);
  }
  void wait(const char* name) { nccl::wait(context_.stream, comm_, name); }

  cudaEvent_t event_on(cudaStream_t stream, const char* name) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), name);
    check(cudaEventRecord(event, stream), name);
    return event;
  }

  nccl::Sender& sender_to(int to) {
    std::unique_ptr<nccl::Sender>& sender = senders_[to];
    if (!sender) {
      const auto id = std::make_shared<ncclUniqueId>();
      check(ncclGetUniqueId(id.get()), "link of two ranks");
      control_->send(std::as_bytes(std::span(id.get(), 1)), to, id, "link of two ranks");
      sender = std::make_unique<nccl::Sender>(*id, context_.device);
    }
    return *sender;
  }

  ncclComm_t link_from(int from) {
    ncclComm_t& link = links_[from];
    if (!link) {
      ncclUniqueId id{};
      control_->receive(std::as_writable_bytes(std::span(&id, 1)), from, "link of two ranks");
      check(ncclCommInitRank(&link, 2, id, /*rank=*/1), "link of two ranks");
    }
    return link;
  }

  void forget_sent() {
    while (!sending_.empty() &&
           sending_.front().wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
      sending_.front().get();
      sending_.pop_front();
    }
  }

  const RankContext context_;
  const std::unique_ptr<Comm> control_;  // of these ranks, used by nothing else
  ncclComm_t comm_ = nullptr;
  DeviceBuffer staging_, received_;
  std::map<int, std::unique_ptr<nccl::Sender>> senders_;
  std::map<int, ncclComm_t> links_;
  std::deque<std::future<void>> sending_;  // in the order of sending
};

// One GPU a rank: the only visible one, or by the number of the rank among those of its host.
int choose_device(Comm& control) {
  int devices = 0;
  const cudaError_t result = cudaGetDeviceCount(&devices);
  if (result != cudaSuccess || devices == 0) {
    fail(ErrorCode::kNoGpu, "rank {} found no GPU on its host: {}.", control.rank(),
         cudaGetErrorString(result));
  }
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  const std::vector<std::string> hosts = control.all_gather_text(host, "hosts");
  const auto before = static_cast<int>(
      std::count(hosts.begin(), hosts.begin() + control.rank(), hosts[control.rank()]));
  if (devices == 1) return 0;
  if (before >= devices) {
    fail(ErrorCode::kNoGpu,
         "host {} has {} GPUs, but at least {} ranks. Start no more ranks than GPUs.", host,
         devices, before + 1);
  }
  return before;
}

}  // namespace

std::unique_ptr<Comm> make_nccl_comm(Comm& control) {
  RankContext context{control, choose_device(control), nullptr};
  check(cudaSetDevice(context.device), "choice of the GPU");
  check(cudaStreamCreate(&context.stream), "start of NCCL");
  std::vector<int> ranks(control.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return std::make_unique<NcclComm>(context, control.subgroup(ranks, control.name()));
}

}  // namespace sutor
