#include "csrc/comm/nccl/comm_stream.h"

#include <mutex>

namespace sutor::nccl {

// Where operations end; shared with the calls that are still to come, perhaps never.
struct CommStream::Ends {
  std::mutex mutex;
  Journal* journal = nullptr;  // null: it may be gone
};

struct CommStream::OpenOperation {
  std::shared_ptr<Ends> ends;
  int64_t index = 0;
};

namespace {

constexpr const char* kStart = "start of NCCL";

}  // namespace

CommStream::CommStream(const DeviceHooks& hooks, Journal* journal)
    : hooks_(hooks), ends_(std::make_shared<Ends>()) {
  ends_->journal = journal;
  // Non-blocking: a blocking stream would also wait for the default stream, and that for it.
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), kStart);
  check(cudaStreamCreateWithFlags(&calls_, cudaStreamNonBlocking), kStart);
}

CommStream::~CommStream() {
  const std::lock_guard lock(ends_->mutex);
  ends_->journal = nullptr;
}

cudaStream_t CommStream::compute() const {
  void* stream = hooks_.current_stream ? hooks_.current_stream() : nullptr;
  return stream ? static_cast<cudaStream_t>(stream) : cudaStreamLegacy;
}

void CommStream::follow_compute(const char* name) {
  computed_.record(compute(), name);
  computed_.hold_back(stream_, name);
}

void CommStream::lead_compute(const char* name) {
  communicated_.record(stream_, name);
  communicated_.hold_back(compute(), name);
}

void CommStream::record(const void* memory) const {
  if (hooks_.record_stream) hooks_.record_stream(memory, stream_);
}

void CommStream::end_in_journal(void* operation) {
  const std::unique_ptr<OpenOperation> open(static_cast<OpenOperation*>(operation));
  const std::lock_guard lock(open->ends->mutex);
  if (open->ends->journal) open->ends->journal->end(open->index);
}

void CommStream::hand_over(Journal::Operation& operation, const char* name) {
  communicated_.record(stream_, name);
  communicated_.hold_back(calls_, name);
  auto open = std::make_unique<OpenOperation>(OpenOperation{ends_, operation.hand_over()});
  check(cudaLaunchHostFunc(calls_, end_in_journal, open.get()), name);
  open.release();
}

}  // namespace sutor::nccl
