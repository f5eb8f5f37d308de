// Sends messages to one rank without blocking the caller: it has a thread, a stream and a
// communicator of two ranks of its own, the sender as 0 and the receiver as 1. Each direction has a
// communicator, because the operations of a communicator run one after the other, and two
// neighbours may send to each other at the same time.
#pragma once

#include <future>
#include <memory>
#include <span>

#include "csrc/comm/nccl/nccl_calls.h"

namespace sutor::nccl {

class Sender {
 public:
  // `id` must be on its way to the receiver; nothing here waits for it.
  Sender(const ncclUniqueId& id, int device);
  // Waits for what has not left, except while an error unwinds this rank.
  ~Sender();

  // Sends device memory that may be read after `ready`. `owner` keeps it alive until it has left;
  // then the future is set, or it has the error.
  std::future<void> send(std::span<const std::byte> data, Event ready,
                         std::shared_ptr<const void> owner, const char* name);

 private:
  class Worker;
  std::shared_ptr<Worker> worker_;  // its thread shares it
};

}  // namespace sutor::nccl
