#include "tests/support/thread_comm.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "csrc/base/error.h"

namespace sutor::testing {
namespace {

using Bytes = std::vector<std::byte>;

// The messages of a group, by sender and receiver.
class Post {
 public:
  void put(int from, int to, Bytes data) {
    {
      const std::lock_guard lock(mutex_);
      box_[{from, to}].push_back(std::move(data));
    }
    changed_.notify_all();
  }
  Bytes take(int from, int to) {
    std::unique_lock lock(mutex_);
    std::deque<Bytes>& box = box_[{from, to}];
    if (!changed_.wait_for(lock, std::chrono::seconds(30), [&] { return !box.empty(); })) {
      fail(ErrorCode::kCommTimeout, "rank {} waited 30 s for a message of rank {}", to, from);
    }
    Bytes data = std::move(box.front());
    box.pop_front();
    return data;
  }
  // The post of a subgroup: the same for all that ask for these ranks as often.
  std::shared_ptr<Post> of(const std::vector<int>& ranks, int time) {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Post>& post = groups_[{ranks, time}];
    if (!post) post = std::make_shared<Post>();
    return post;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, std::deque<Bytes>> box_;
  std::map<std::pair<std::vector<int>, int>, std::shared_ptr<Post>> groups_;
};

class ThreadComm final : public Comm {
 public:
  ThreadComm(std::shared_ptr<Post> post, int rank, int size, std::string name)
      : post_(std::move(post)), rank_(rank), size_(size), name_(std::move(name)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }
  void all_reduce(std::span<float> data, ReduceOp op, const char*) override { reduce(data, op); }
  void all_reduce(std::span<double> data, ReduceOp op, const char*) override { reduce(data, op); }
  void all_reduce(std::span<int64_t> data, ReduceOp op, const char*) override { reduce(data, op); }
  void reduce_scatter(std::span<float> data, std::span<const int64_t>, const char*) override {
    reduce(data, ReduceOp::kSum);
  }
  void all_gather(std::span<std::byte> data, std::span<const int64_t> bytes,
                  const char* name) override {
    size_t at = 0;
    for (int r = 0; r < size_; at += bytes[r++]) {
      broadcast(data.subspan(at, static_cast<size_t>(bytes[r])), r, name);
    }
  }
  void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                  std::span<const int64_t> recv_rows, int64_t row_bytes, const char*) override {
    const std::byte* from = static_cast<const std::byte*>(send);
    std::byte* to = static_cast<std::byte*>(recv);
    for (int r = 0; r < size_; ++r) {
      put({from, static_cast<size_t>(send_rows[r] * row_bytes)}, r);
      from += send_rows[r] * row_bytes;
    }
    for (int r = 0; r < size_; ++r) {
      take({to, static_cast<size_t>(recv_rows[r] * row_bytes)}, r);
      to += recv_rows[r] * row_bytes;
    }
  }
  void broadcast(std::span<std::byte> data, int root, const char*) override {
    if (rank_ != root) return take(data, root);
    for (int r = 0; r < size_; ++r) {
      if (r != root) put(data, r);
    }
  }
  void barrier(const char*) override {
    int64_t one = 1;
    reduce(std::span(&one, 1), ReduceOp::kSum);
  }
  void send(std::span<const std::byte> data, int to, std::shared_ptr<const void>,
            const char*) override {
    put(data, to);
  }
  void await_sends(size_t, const char*) override {}
  void receive(std::span<std::byte> data, int from, const char*) override { take(data, from); }
  std::unique_ptr<Comm> subgroup(std::span<const int> ranks, const std::string& name) override {
    const std::vector<int> list(ranks.begin(), ranks.end());
    const auto here = std::find(list.begin(), list.end(), rank_) - list.begin();
    return std::make_unique<ThreadComm>(post_->of(list, times_[list]++), static_cast<int>(here),
                                        static_cast<int>(list.size()), name);
  }
  bool all_failed(int, double) override { return false; }
  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }
  void finish(int) override { barrier("finish"); }
  Journal* journal() const override { return nullptr; }
  uint64_t order_digest() const override { return 0; }

 private:
  void put(std::span<const std::byte> data, int to) {
    post_->put(rank_, to, Bytes(data.begin(), data.end()));
  }
  void take(std::span<std::byte> data, int from) {
    const Bytes message = post_->take(from, rank_);
    SUTOR_ASSERT(message.size() == data.size());
    std::copy(message.begin(), message.end(), data.begin());
  }
  template <typename T>
  void reduce(std::span<T> data, ReduceOp op) {
    std::vector<T> mine(data.begin(), data.end()), other(data.size());
    for (int r = 0; r < size_; ++r) {
      if (r != rank_) put(std::as_bytes(std::span(mine)), r);
    }
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      take(std::as_writable_bytes(std::span(other)), r);
      for (size_t i = 0; i < other.size(); ++i) {
        data[i] = op == ReduceOp::kSum   ? data[i] + other[i]
                  : op == ReduceOp::kMax ? std::max(data[i], other[i])
                                         : std::min(data[i], other[i]);
      }
    }
  }

  std::shared_ptr<Post> post_;
  int rank_, size_;
  std::string name_;
  std::map<std::vector<int>, int> times_;
};

}  // namespace

void run_ranks(int ranks, const std::function<void(Comm&)>& rank) {
  const auto post = std::make_shared<Post>();
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      ThreadComm comm(post, r, ranks, "world");
      try {
        rank(comm);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << r << " of " << ranks << ": " << error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace sutor::testing
