#include "launch/plan/planned_comm.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <numeric>
#include <string_view>

#include "csrc/base/error.h"
#include "csrc/ops/device/memory.h"

namespace sutor {
namespace {

class PlannedComm final : public Comm {
 public:
  // ranks: of the world, in the order of this communicator.
  PlannedComm(const RankLayout& layout, std::vector<int> ranks, int rank, std::string name,
              double peer_tokens, PlannedTraffic& traffic)
      : layout_(layout),
        ranks_(std::move(ranks)),
        rank_(rank),
        name_(std::move(name)),
        peer_tokens_(peer_tokens),
        traffic_(traffic) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(ranks_.size()); }
  const std::string& name() const override { return name_; }

  void all_reduce(std::span<float> data, ReduceOp, const char*) override {
    ring(2 * static_cast<double>(data.size_bytes()));
  }
  void all_reduce(std::span<double> data, ReduceOp, const char*) override {
    ring(2 * static_cast<double>(data.size_bytes()));
  }
  // Numbers by which ranks tell each other something stand at the place of their rank, zeros at the
  // others: a sum is how they gather them.
  void all_reduce(std::span<int64_t> data, ReduceOp op, const char* name) override {
    ring(2 * static_cast<double>(data.size_bytes()));
    if (size() == 1 || ops::is_without_values(data.data())) return;
    const auto ranks = static_cast<size_t>(size());
    if (op != ReduceOp::kSum || data.size() % ranks != 0) return;
    for (size_t i = 0; i < data.size(); ++i) {
      if (data[i] != 0 && i % ranks != static_cast<size_t>(rank_)) return;
    }
    for (size_t i = 0; i < data.size(); ++i) data[i] = data[i / ranks * ranks + rank_];
    // The second row of these numbers says which experts a rank has.
    if (std::string_view(name) != "dispatch counts" || data.size() != 2 * ranks) return;
    for (size_t r = 0; r < ranks; ++r) {
      data[ranks + r] = layout_.coordinates(ranks_[r]).ep;
      if (r != static_cast<size_t>(rank_)) data[r] = of_peer(data[r]);
    }
  }
  void reduce_scatter(std::span<float> data, std::span<const int64_t>, const char*) override {
    ring(static_cast<double>(data.size_bytes()));
  }
  void all_gather(std::span<std::byte> data, std::span<const int64_t> bytes, const char*) override {
    ring(static_cast<double>(data.size()));
    if (size() == 1 || ops::is_without_values(data.data())) return;
    const auto begin_of = [&](int rank) {
      return std::accumulate(bytes.begin(), bytes.begin() + rank, int64_t{0});
    };
    for (int r = 0; r < size(); ++r) {
      if (r == rank_) continue;
      std::memcpy(data.data() + begin_of(r), data.data() + begin_of(rank_),
                  static_cast<size_t>(std::min(bytes[r], bytes[rank_])));
    }
  }
  void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                  std::span<const int64_t> recv_rows, int64_t row_bytes,
                  const char* name) override {
    for (int r = 0; r < size(); ++r) {
      if (r != rank_) traffic_.bytes += static_cast<double>(send_rows[r] * row_bytes);
    }
    if (ops::is_without_values(send) || ops::is_without_values(recv)) return;
    // What every rank sends to this one: what this one sends to itself.
    const auto first =
        std::accumulate(send_rows.begin(), send_rows.begin() + rank_, int64_t{0}) * row_bytes;
    auto* to = static_cast<std::byte*>(recv);
    for (int r = 0; r < size(); ++r) {
      const int64_t rows = std::min(recv_rows[r], send_rows[rank_]);
      if (rows > 0) {
        std::memcpy(to, static_cast<const std::byte*>(send) + first,
                    static_cast<size_t>(rows * row_bytes));
      }
      if (r != rank_ && std::string_view(name) == "dispatch counts") {
        const std::span counts(reinterpret_cast<int64_t*>(to),
                               static_cast<size_t>(rows * row_bytes / 8));
        for (int64_t& count : counts) count = of_peer(count);
      }
      to += recv_rows[r] * row_bytes;
    }
  }
  void broadcast(std::span<std::byte>, int, const char*) override {}
  void barrier(const char*) override {}

  void send(std::span<const std::byte> data, int, std::shared_ptr<const void> owner,
            const char*) override {
    traffic_.bytes += static_cast<double>(data.size());
    sent_.push_back(std::move(owner));
  }
  void await_sends(size_t newest, const char*) override {
    while (sent_.size() > newest) sent_.pop_front();
  }
  void receive(std::span<std::byte>, int, const char*) override {}

  std::unique_ptr<Comm> subgroup(std::span<const int> ranks, const std::string& name) override {
    std::vector<int> members;
    for (const int rank : ranks) members.push_back(ranks_[static_cast<size_t>(rank)]);
    const auto own = std::find(members.begin(), members.end(), ranks_[rank_]);
    SUTOR_ASSERT(own != members.end());
    return std::make_unique<PlannedComm>(layout_, members, static_cast<int>(own - members.begin()),
                                         name, peer_tokens_, traffic_);
  }

  bool all_failed(int, double) override { return true; }
  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }
  void finish(int) override {}
  Journal* journal() const override { return nullptr; }
  uint64_t order_digest() const override { return 0; }

 private:
  // What another rank has where this one has so many tokens, or choices of them.
  int64_t of_peer(int64_t count) const {
    return static_cast<int64_t>(std::ceil(peer_tokens_ * static_cast<double>(count)));
  }
  void ring(double bytes) {
    traffic_.bytes += bytes * (static_cast<double>(size()) - 1) / static_cast<double>(size());
  }

  const RankLayout& layout_;
  std::vector<int> ranks_;
  int rank_;
  std::string name_;
  double peer_tokens_;
  PlannedTraffic& traffic_;
  std::deque<std::shared_ptr<const void>> sent_;
};

}  // namespace

std::unique_ptr<Comm> make_planned_comm(const RankLayout& layout, int rank, double peer_tokens,
                                        PlannedTraffic& traffic) {
  std::vector<int> ranks(static_cast<size_t>(layout.world_size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return std::make_unique<PlannedComm>(layout, ranks, rank, "world", peer_tokens, traffic);
}

}  // namespace sutor
