// Messages between two ranks of a group, from device memory to device memory. Every pair of ranks
// has a link of its own in each direction (nccl_sender.h), made when the first message needs it.
#pragma once

#include <deque>
#include <future>
#include <map>
#include <memory>
#include <span>

#include "csrc/comm/comm.h"
#include "csrc/comm/nccl/comm_stream.h"
#include "csrc/comm/nccl/nccl_sender.h"

namespace sutor::nccl {

class Messages {
 public:
  // `control`: carries the ids of links.
  Messages(CommStream& stream, Comm& control, int device)
      : stream_(stream), control_(control), device_(device) {}

  void send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
            const char* name);
  // Waits until at most `newest` have not left.
  void await_sends(size_t newest);
  // What the compute stream gets afterwards sees the data.
  void receive(std::span<std::byte> data, int from, const char* name);

 private:
  Sender& sender_to(int to);
  ncclComm_t link_from(int from);
  void forget_sent();

  CommStream& stream_;
  Comm& control_;
  const int device_;
  std::map<int, std::unique_ptr<Sender>> senders_;
  std::map<int, ncclComm_t> links_;
  std::deque<std::future<void>> sending_;  // in the order of sending
};

}  // namespace sutor::nccl
