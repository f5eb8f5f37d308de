#include "csrc/comm/nccl/nccl_sender.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "csrc/comm/wait_limit.h"

namespace sutor::nccl {

class Sender::Worker {
 public:
  struct Message {
    std::span<const std::byte> data;
    Event ready;
    std::shared_ptr<const void> owner;
    std::string name;
    std::promise<void> left;
  };

  Worker(const ncclUniqueId& id, int device) : id_(id), device_(device) {}

  void post(Message message) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(message));
    }
    changed_.notify_all();
  }

  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
  }

  void wait_for_the_end() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::duration<double>(wait_limit_seconds()),
                      [&] { return ended_; });
  }

  // The body of the thread.
  void run() {
    while (std::optional<Message> message = next()) {
      try {
        start();
        transmit(*message);
        message->owner.reset();
        message->left.set_value();
      } catch (...) {
        message->owner.reset();
        message->left.set_exception(std::current_exception());
      }
    }
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
  }

 private:
  std::optional<Message> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || !queue_.empty(); });
    if (queue_.empty()) return std::nullopt;
    Message message = std::move(queue_.front());
    queue_.pop_front();
    return message;
  }

  // On the thread and not in the constructor, because it waits for the receiver.
  void start() {
    if (comm_) return;
    check(cudaSetDevice(device_), "link of two ranks");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "link of two ranks");
    check(ncclCommInitRank(&comm_, 2, id_, 0), "link of two ranks");
  }

  void transmit(const Message& message) {
    const char* name = message.name.c_str();
    message.ready.hold_back(stream_, name);
    check(ncclSend(message.data.data(), message.data.size(), ncclUint8, /*peer=*/1, comm_, stream_),
          name);
    wait(stream_, comm_, name, name);
  }

  const ncclUniqueId id_;
  const int device_;
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;

  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::deque<Message> queue_;
  bool closed_ = false, ended_ = false;
};

Sender::Sender(const ncclUniqueId& id, int device) : worker_(std::make_shared<Worker>(id, device)) {
  std::thread([worker = worker_] { worker->run(); }).detach();
}

Sender::~Sender() {
  worker_->close();
  if (std::uncaught_exceptions() == 0) worker_->wait_for_the_end();
}

std::future<void> Sender::send(std::span<const std::byte> data, Event ready,
                               std::shared_ptr<const void> owner, const char* name) {
  Worker::Message message{data, std::move(ready), std::move(owner), name, {}};
  std::future<void> left = message.left.get_future();
  worker_->post(std::move(message));
  return left;
}

}  // namespace sutor::nccl
