#include "csrc/comm/nccl/nccl_messages.h"

#include <chrono>

namespace sutor::nccl {
namespace {

constexpr const char* kLink = "link of two ranks";

}  // namespace

void Messages::send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
                    const char* name) {
  forget_sent();
  Event ready(stream_.compute(), name);
  sending_.push_back(sender_to(to).send(data, std::move(ready), std::move(owner), name));
}

void Messages::await_sends(size_t newest) {
  while (sending_.size() > newest) {
    sending_.front().get();  // throws what the thread met
    sending_.pop_front();
  }
}

void Messages::receive(std::span<std::byte> data, int from, const char* name) {
  forget_sent();
  const ncclComm_t link = link_from(from);
  check_state(link, name, name);
  stream_.follow_compute(name);
  check(ncclRecv(data.data(), data.size(), ncclUint8, /*peer=*/0, link, stream_.get()), name);
  stream_.lead_compute(name);
}

Sender& Messages::sender_to(int to) {
  std::unique_ptr<Sender>& sender = senders_[to];
  if (!sender) {
    const auto id = std::make_shared<ncclUniqueId>();
    check(ncclGetUniqueId(id.get()), kLink);
    control_.send(std::as_bytes(std::span(id.get(), 1)), to, id, kLink);
    sender = std::make_unique<Sender>(*id, device_);
  }
  return *sender;
}

ncclComm_t Messages::link_from(int from) {
  ncclComm_t& link = links_[from];
  if (!link) {
    ncclUniqueId id{};
    control_.receive(std::as_writable_bytes(std::span(&id, 1)), from, kLink);
    check(ncclCommInitRank(&link, 2, id, /*rank=*/1), kLink);
  }
  return link;
}

void Messages::forget_sent() {
  while (!sending_.empty() &&
         sending_.front().wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
    sending_.front().get();
    sending_.pop_front();
  }
}

}  // namespace sutor::nccl
