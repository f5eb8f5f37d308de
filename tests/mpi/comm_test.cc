// Checks the collectives against their definitions.
#include <gtest/gtest.h>

#include <numeric>

#include "mpi_world.h"

namespace sutor {
namespace {

TEST(Comm, AllReduceSumsOverRanks) {
  Comm& world = test_world();
  std::vector<float> data = {static_cast<float>(world.rank()), 1.0f};
  world.all_reduce(std::span(data), ReduceOp::kSum, "test");
  EXPECT_EQ(data[0], world.size() * (world.size() - 1) / 2);
  EXPECT_EQ(data[1], world.size());
}

TEST(Comm, ReduceScatterGivesEachRankItsUnequalChunk) {
  Comm& world = test_world();
  std::vector<int64_t> counts;
  for (int r = 0; r < world.size(); ++r) counts.push_back(3 * r);  // rank 0 owns nothing
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  std::vector<float> data(total);
  for (int64_t i = 0; i < total; ++i) data[i] = static_cast<float>(i + world.rank());
  world.reduce_scatter(std::span(data), counts, "test");
  int64_t begin = std::accumulate(counts.begin(), counts.begin() + world.rank(), int64_t{0});
  const float ranks = static_cast<float>(world.size());
  for (int64_t i = begin; i < begin + counts[world.rank()]; ++i) {
    EXPECT_EQ(data[i], i * ranks + ranks * (ranks - 1) / 2);
  }
}

TEST(Comm, AllToAllBringsEachRowToItsRank) {
  Comm& world = test_world();
  // Rank s sends d + s rows of two numbers to rank d, none from 0 to 0.
  std::vector<int64_t> send_rows, recv_rows;
  std::vector<int32_t> send;
  for (int d = 0; d < world.size(); ++d) {
    send_rows.push_back(d + world.rank());
    recv_rows.push_back(world.rank() + d);
    for (int i = 0; i < d + world.rank(); ++i) {
      send.push_back(world.rank());
      send.push_back(d);
    }
  }
  std::vector<int32_t> recv(2 * std::accumulate(recv_rows.begin(), recv_rows.end(), int64_t{0}));
  world.all_to_all(send.data(), send_rows, recv.data(), recv_rows, 8, "test");
  size_t at = 0;
  for (int s = 0; s < world.size(); ++s) {
    for (int64_t i = 0; i < recv_rows[s]; ++i, at += 2) {
      EXPECT_EQ(recv[at], s);
      EXPECT_EQ(recv[at + 1], world.rank());
    }
  }
}

TEST(Comm, TextsOfUnequalLengthAreGathered) {
  Comm& world = test_world();
  const auto all = world.all_gather_text(std::string(world.rank() * 5, 'x'), "test");
  for (int r = 0; r < world.size(); ++r) EXPECT_EQ(all[r], std::string(r * 5, 'x'));
  EXPECT_EQ(world.broadcast_text(world.rank() == 1 ? "hello" : "", 1, "test"), "hello");
}

TEST(Comm, SubgroupKeepsTheOrderOfRanks) {
  Comm& world = test_world();
  std::vector<int> ranks;
  for (int r = world.rank() % 2; r < world.size(); r += 2) ranks.push_back(r);
  const auto half = world.subgroup(ranks, "half");
  EXPECT_EQ(half->rank(), world.rank() / 2);
  EXPECT_EQ(half->name(), "half");
  int64_t one = 1;
  half->all_reduce(std::span(&one, 1), ReduceOp::kSum, "test");
  EXPECT_EQ(one, half->size());
}

TEST(Comm, MessagesArriveInTheOrderOfSendingThoughNobodyWaitsForThem) {
  Comm& world = test_world();
  const int next = (world.rank() + 1) % world.size();
  const int previous = (world.rank() + world.size() - 1) % world.size();
  constexpr int kMessages = 3;
  const size_t length = size_t{1} << 18;  // beyond what MPI buffers by itself
  for (int m = 0; m < kMessages; ++m) {
    const auto data = std::make_shared<std::vector<int>>(length, 10 * world.rank() + m);
    world.send(std::as_bytes(std::span(*data)), next, data, "test");
  }
  for (int m = 0; m < kMessages; ++m) {
    std::vector<int> data(length);
    world.receive(std::as_writable_bytes(std::span(data)), previous, "test");
    EXPECT_EQ(data.front(), 10 * previous + m);
    EXPECT_EQ(data.back(), 10 * previous + m);
  }
  world.barrier("test");
}

}  // namespace
}  // namespace sutor
