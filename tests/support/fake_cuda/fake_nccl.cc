// NCCL among threads: see fake_cuda.h.
#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/fake_cuda/fake_cuda.h"
#include "tests/support/fake_cuda/fake_stream.h"

namespace {

using sutor::testing::fake_calls;
using sutor::testing::in_fake_device_memory;
using sutor::testing::kPatience;

// How long an operation takes at least.
constexpr std::chrono::milliseconds kLatency{2};

size_t size_of(ncclDataType_t type) { return type == ncclUint8 ? 1 : type == ncclFloat32 ? 4 : 8; }

enum class Kind { kAllReduce, kReduce, kReduceScatter, kAllGather, kBroadcast, kSend, kReceive };

struct Operation {
  Kind kind;
  const void* send = nullptr;
  void* recv = nullptr;
  size_t count = 0;
  ncclDataType_t type = ncclUint8;
  ncclRedOp_t op = ncclSum;
  int peer = 0;  // or root
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;

  size_t bytes() const { return count * size_of(type); }
  bool same_as(const Operation& o) const {
    return kind == o.kind && count == o.count && type == o.type && op == o.op && peer == o.peer;
  }
};

struct Message {
  const void* data;
  size_t bytes;
  bool taken = false;
};

// The state that the ranks of a communicator share.
struct Shared {
  std::mutex mutex;
  std::condition_variable changed;
  int size = 0, joined = 0;
  std::vector<const Operation*> here;  // [size] of the collective under way
  int arrived = 0;
  int64_t rounds = 0;
  ncclResult_t result = ncclSuccess;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Message>>> mail;

  template <typename Condition>
  bool wait(std::unique_lock<std::mutex>& lock, const Condition& condition) {
    return changed.wait_for(lock, kPatience, condition);
  }
};

std::mutex registry_mutex;
std::map<std::string, std::shared_ptr<Shared>> registry;
thread_local int depth = 0;
thread_local std::vector<Operation> queued;

}  // namespace

struct ncclComm {
  std::shared_ptr<Shared> shared;
  int rank;
  std::atomic<ncclResult_t> error = ncclSuccess;  // of an operation on its stream
};

namespace {

template <typename T>
void combine(std::vector<std::byte>& sum, const void* other, size_t count, ncclRedOp_t op) {
  T* a = reinterpret_cast<T*>(sum.data());
  const T* b = static_cast<const T*>(other);
  for (size_t i = 0; i < count; ++i) {
    a[i] = op == ncclSum   ? a[i] + b[i]
           : op == ncclMax ? std::max(a[i], b[i])
                           : std::min(a[i], b[i]);
  }
}

// Reduces `count` elements over all ranks, from byte `at` of their send buffers on.
std::vector<std::byte> reduced(const std::vector<const Operation*>& ranks, size_t at) {
  const Operation& first = *ranks[0];
  const auto* begin = static_cast<const std::byte*>(first.send) + at;
  std::vector<std::byte> sum(begin, begin + first.bytes());
  for (size_t r = 1; r < ranks.size(); ++r) {
    const auto* other = static_cast<const std::byte*>(ranks[r]->send) + at;
    if (first.type == ncclFloat32) combine<float>(sum, other, first.count, first.op);
    if (first.type == ncclFloat64) combine<double>(sum, other, first.count, first.op);
    if (first.type == ncclInt64) combine<int64_t>(sum, other, first.count, first.op);
  }
  return sum;
}

// Reads all inputs before it writes any output, because they may be the same memory.
void carry_out(const std::vector<const Operation*>& ranks) {
  const Operation& first = *ranks[0];
  const size_t bytes = first.bytes();
  std::vector<std::pair<void*, std::vector<std::byte>>> writes;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const auto* mine = static_cast<const std::byte*>(ranks[r]->send);
    switch (first.kind) {
      case Kind::kAllReduce:
        writes.emplace_back(ranks[r]->recv, reduced(ranks, 0));
        break;
      case Kind::kReduce:
        if (first.peer == static_cast<int>(r))
          writes.emplace_back(ranks[r]->recv, reduced(ranks, 0));
        break;
      case Kind::kReduceScatter:
        writes.emplace_back(ranks[r]->recv, reduced(ranks, r * bytes));
        break;
      case Kind::kAllGather:
        for (const Operation* to : ranks) {
          writes.emplace_back(static_cast<std::byte*>(to->recv) + r * bytes,
                              std::vector<std::byte>(mine, mine + bytes));
        }
        break;
      case Kind::kBroadcast: {
        const auto* root = static_cast<const std::byte*>(ranks[first.peer]->send);
        writes.emplace_back(ranks[r]->recv, std::vector<std::byte>(root, root + bytes));
        break;
      }
      default:
        break;
    }
  }
  for (const auto& [to, data] : writes) std::memcpy(to, data.data(), data.size());
}

ncclResult_t meet(const Operation& operation) {
  Shared& shared = *operation.comm->shared;
  std::unique_lock lock(shared.mutex);
  const int64_t round = shared.rounds;
  shared.here[operation.comm->rank] = &operation;
  if (++shared.arrived == shared.size) {
    shared.result = ncclSuccess;
    for (const Operation* other : shared.here) {
      if (!other->same_as(operation)) shared.result = ncclInvalidUsage;
    }
    if (shared.result == ncclSuccess) carry_out(shared.here);
    shared.arrived = 0;
    ++shared.rounds;
    shared.changed.notify_all();
    return shared.result;
  }
  if (!shared.wait(lock, [&] { return shared.rounds > round; })) return ncclSystemError;
  return shared.result;
}

std::shared_ptr<Message> post(const Operation& operation) {
  Shared& shared = *operation.comm->shared;
  auto message = std::make_shared<Message>(Message{operation.send, operation.bytes()});
  {
    const std::lock_guard lock(shared.mutex);
    shared.mail[{operation.comm->rank, operation.peer}].push_back(message);
  }
  shared.changed.notify_all();
  return message;
}

ncclResult_t take(const Operation& operation) {
  Shared& shared = *operation.comm->shared;
  std::unique_lock lock(shared.mutex);
  auto& box = shared.mail[{operation.peer, operation.comm->rank}];
  if (!shared.wait(lock, [&] { return !box.empty(); })) return ncclSystemError;
  const std::shared_ptr<Message> message = box.front();
  box.pop_front();
  if (message->bytes == operation.bytes()) {
    std::memcpy(operation.recv, message->data, message->bytes);
  }
  message->taken = true;
  shared.changed.notify_all();
  return message->bytes == operation.bytes() ? ncclSuccess : ncclInvalidUsage;
}

ncclResult_t wait_taken(const Operation& operation, const Message& message) {
  Shared& shared = *operation.comm->shared;
  std::unique_lock lock(shared.mutex);
  return shared.wait(lock, [&] { return message.taken; }) ? ncclSuccess : ncclSystemError;
}

// Executes the operations as one group: no send waits for a receive of the same group.
void run(const std::vector<Operation>& operations) {
  std::vector<std::pair<const Operation*, std::shared_ptr<Message>>> sent;
  for (const Operation& o : operations) {
    if (o.kind == Kind::kSend) sent.emplace_back(&o, post(o));
  }
  std::this_thread::sleep_for(kLatency);
  ncclResult_t worst = ncclSuccess;
  const auto note = [&](ncclResult_t result) { worst = std::max(worst, result); };
  for (const Operation& o : operations) {
    if (o.kind == Kind::kReceive) note(take(o));
    if (o.kind != Kind::kReceive && o.kind != Kind::kSend) note(meet(o));
  }
  for (const auto& [operation, message] : sent) note(wait_taken(*operation, *message));
  if (worst == ncclSuccess) return;
  for (const Operation& o : operations) o.comm->error = worst;
}

void enqueue(std::vector<Operation> operations) {
  if (operations.empty()) return;
  const cudaStream_t stream = operations[0].stream;
  sutor::testing::enqueue(stream, [all = std::move(operations)] { run(all); });
}

ncclResult_t start(const Operation& o) {
  const size_t ranks = static_cast<size_t>(o.comm->shared->size);
  const bool reads = o.kind != Kind::kReceive;
  const bool writes = o.kind != Kind::kSend && (o.kind != Kind::kReduce || o.peer == o.comm->rank);
  const size_t read = o.bytes() * (o.kind == Kind::kReduceScatter ? ranks : 1);
  const size_t written = o.bytes() * (o.kind == Kind::kAllGather ? ranks : 1);
  if (reads && !in_fake_device_memory(o.send, read)) return ncclInvalidArgument;
  if (writes && !in_fake_device_memory(o.recv, written)) return ncclInvalidArgument;
  if (o.peer < 0 || o.peer >= o.comm->shared->size) return ncclInvalidArgument;
  auto& [allocations, frees, copies, operations, streams] = fake_calls();
  ++operations;
  if (std::find(streams.begin(), streams.end(), o.stream) == streams.end()) {
    streams.push_back(o.stream);
  }
  if (depth > 0) {
    queued.push_back(o);
  } else {
    enqueue({o});
  }
  return ncclSuccess;
}

}  // namespace

extern "C" {

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclInvalidUsage      ? "invalid usage"
         : result == ncclInvalidArgument ? "invalid argument"
                                         : "system error";
}
const char* ncclGetLastError(ncclComm_t) { return "Said by the fake."; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> next = 0;
  std::memset(id, 0, sizeof(*id));
  const int number = ++next;
  std::memcpy(id->internal, &number, sizeof(number));
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  std::shared_ptr<Shared> shared;
  {
    const std::lock_guard lock(registry_mutex);
    std::shared_ptr<Shared>& entry = registry[std::string(id.internal, sizeof(id.internal))];
    if (!entry) entry = std::make_shared<Shared>();
    shared = entry;
  }
  std::unique_lock lock(shared->mutex);
  shared->size = size;
  shared->here.resize(static_cast<size_t>(size));
  ++shared->joined;
  shared->changed.notify_all();
  if (!shared->wait(lock, [&] { return shared->joined >= size; })) return ncclSystemError;
  *comm = new ncclComm{shared, rank, ncclSuccess};  // like the real one it ends with the process
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* result) {
  *result = comm->error;
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  ++depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (--depth > 0) return ncclSuccess;
  enqueue(std::exchange(queued, {}));
  return ncclSuccess;
}
ncclResult_t ncclAllReduce(const void* send, void* recv, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return start({Kind::kAllReduce, send, recv, count, type, op, 0, comm, stream});
}
ncclResult_t ncclReduce(const void* send, void* recv, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
  return start({Kind::kReduce, send, recv, count, type, op, root, comm, stream});
}
ncclResult_t ncclReduceScatter(const void* send, void* recv, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return start({Kind::kReduceScatter, send, recv, count, type, op, 0, comm, stream});
}
ncclResult_t ncclAllGather(const void* send, void* recv, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return start({Kind::kAllGather, send, recv, count, type, ncclSum, 0, comm, stream});
}
ncclResult_t ncclBroadcast(const void* send, void* recv, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return start({Kind::kBroadcast, send, recv, count, type, ncclSum, root, comm, stream});
}
ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return start({Kind::kSend, send, nullptr, count, type, ncclSum, peer, comm, stream});
}
ncclResult_t ncclRecv(void* recv, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return start({Kind::kReceive, nullptr, recv, count, type, ncclSum, peer, comm, stream});
}

}  // extern "C"
