#include "tests/support/fake_cuda/recorded_comm.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

#include "tests/support/fake_cuda/fake_cuda.h"

namespace sutor::testing {
namespace {

class RecordedComm final : public Comm {
 public:
  RecordedComm(Comm& comm, std::unique_ptr<Comm> owned, std::shared_ptr<Records> records,
               std::vector<int> world_ranks)
      : comm_(comm),
        owned_(std::move(owned)),
        records_(std::move(records)),
        world_ranks_(std::move(world_ranks)),
        messages_(all_of(comm)),
        group_(size() > 1 ? records_->journal.add_group(name(), world_ranks_) : 0) {}

  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  const std::string& name() const override { return comm_.name(); }

  void all_reduce(std::span<float> data, ReduceOp op, const char* name) override {
    const auto operation = begin(data.data(), data.size_bytes(), name);
    comm_.all_reduce(data, op, name);
  }
  void all_reduce(std::span<double> data, ReduceOp op, const char* name) override {
    const auto operation = begin(data.data(), data.size_bytes(), name);
    comm_.all_reduce(data, op, name);
  }
  void all_reduce(std::span<int64_t> data, ReduceOp op, const char* name) override {
    const auto operation = begin(data.data(), data.size_bytes(), name);
    comm_.all_reduce(data, op, name);
  }
  void reduce_scatter(std::span<float> data, std::span<const int64_t> counts,
                      const char* name) override {
    const auto operation = begin(data.data(), data.size_bytes(), name);
    comm_.reduce_scatter(data, counts, name);
  }
  void all_gather(std::span<std::byte> data, std::span<const int64_t> bytes,
                  const char* name) override {
    const auto operation = begin(data.data(), data.size(), name);
    comm_.all_gather(data, bytes, name);
  }
  void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                  std::span<const int64_t> recv_rows, int64_t row_bytes,
                  const char* name) override {
    const auto operation = begin(send, 1, name);
    expect_host(recv, 1, name);
    comm_.all_to_all(send, send_rows, recv, recv_rows, row_bytes, name);
  }
  void broadcast(std::span<std::byte> data, int root, const char* name) override {
    const auto operation = begin(data.data(), data.size(), name);
    comm_.broadcast(data, root, name);
  }
  void barrier(const char* name) override {
    const auto operation = begin(nullptr, 0, name);
    comm_.barrier(name);
  }
  void send(std::span<const std::byte> data, int to, std::shared_ptr<const void> owner,
            const char* name) override {
    const auto operation = begin(data.data(), data.size(), name, OperationKind::kSend, to);
    if (!data.empty()) messages_->send(data, to, std::move(owner), name);
  }
  void await_sends(size_t newest, const char* name) override {
    messages_->await_sends(newest, name);
  }
  void receive(std::span<std::byte> data, int from, const char* name) override {
    const auto operation = begin(data.data(), data.size(), name, OperationKind::kReceive, from);
    if (!data.empty()) messages_->receive(data, from, name);
  }
  std::unique_ptr<Comm> subgroup(std::span<const int> ranks, const std::string& name) override {
    std::vector<int> world_ranks;
    for (const int r : ranks) world_ranks.push_back(world_ranks_.at(static_cast<size_t>(r)));
    std::unique_ptr<Comm> part = comm_.subgroup(ranks, name);
    Comm& comm = *part;
    return std::make_unique<RecordedComm>(comm, std::move(part), records_, std::move(world_ranks));
  }
  bool all_failed(int exit_code, double seconds) override {
    return comm_.all_failed(exit_code, seconds);
  }
  [[noreturn]] void abort(int exit_code) override {
    comm_.abort(exit_code);
    std::abort();
  }
  void finish(int exit_code) override { comm_.finish(exit_code); }
  Journal* journal() const override { return size() > 1 ? &records_->journal : nullptr; }
  int journal_group() const override { return group_; }
  uint64_t order_digest() const override {
    return size() > 1 ? records_->journal.digest(group_) : 0;
  }

 private:
  static std::unique_ptr<Comm> all_of(Comm& comm) {
    std::vector<int> ranks(static_cast<size_t>(comm.size()));
    std::iota(ranks.begin(), ranks.end(), 0);
    return comm.subgroup(ranks, comm.name());
  }
  // With one rank nothing is communicated.
  void expect_host(const void* data, size_t bytes, const char* name) {
    EXPECT_FALSE(size() > 1 && bytes > 0 && in_fake_device_memory(data, 1)) << name;
  }
  // Null with one rank.
  std::unique_ptr<Journal::Operation> begin(const void* data, size_t bytes, const char* name,
                                            OperationKind kind = OperationKind::kCollective,
                                            int peer = -1) {
    expect_host(data, bytes, name);
    ++records_->operations;
    if (size() == 1) return nullptr;
    return std::make_unique<Journal::Operation>(records_->journal, group_, kind, name, peer);
  }

  Comm& comm_;
  const std::unique_ptr<Comm> owned_;  // null, or comm_
  const std::shared_ptr<Records> records_;
  const std::vector<int> world_ranks_;
  // On a communicator of its own: that of threads confuses messages with collectives.
  const std::unique_ptr<Comm> messages_;
  const int group_;
};

}  // namespace

std::unique_ptr<Comm> recorded(Comm& comm, std::shared_ptr<Records> records) {
  std::vector<int> ranks(static_cast<size_t>(comm.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return std::make_unique<RecordedComm>(comm, nullptr, std::move(records), std::move(ranks));
}

}  // namespace sutor::testing
