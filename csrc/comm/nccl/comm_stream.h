// The stream on which the GPU of this process communicates, for all groups, and its order with the
// stream on which it computes. Both wait for each other on the GPU; the host does not.
#pragma once

#include <memory>

#include "csrc/comm/journal.h"
#include "csrc/comm/nccl/device_hooks.h"
#include "csrc/comm/nccl/nccl_calls.h"

namespace sutor::nccl {

class CommStream {
 public:
  CommStream(const DeviceHooks& hooks, Journal* journal);
  CommStream(const CommStream&) = delete;
  ~CommStream();

  cudaStream_t get() const { return stream_; }
  // Where the calling thread computes now.
  cudaStream_t compute() const;

  // What this stream gets from now on comes after what the compute stream has got so far.
  void follow_compute(const char* name);
  // What the compute stream gets from now on comes after what this stream has got so far.
  void lead_compute(const char* name);
  // This stream uses the memory.
  void record(const void* memory) const;

  // Leaves an operation open in the journal until this stream has done what it has got so far.
  void hand_over(Journal::Operation& operation, const char* name);

 private:
  struct Ends;
  struct OpenOperation;
  static void end_in_journal(void* operation);

  const DeviceHooks hooks_;
  cudaStream_t stream_ = nullptr;
  // Calls of the host on their own stream, so that nothing waits for them.
  cudaStream_t calls_ = nullptr;
  Event computed_, communicated_;
  std::shared_ptr<Ends> ends_;
};

}  // namespace sutor::nccl
