// Checks the collectives against their definitions.
#include <gtest/gtest.h>

#include <numeric>

#include "csrc/comm/journal.h"
#include "csrc/comm/mpi/mpi_segments.h"
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

// Segments for the ranks of a communicator: none, some empty, odd and unequal ones, all on one
// rank.
std::vector<std::vector<int64_t>> segment_sizes(int ranks, int64_t longest) {
  std::vector<std::vector<int64_t>> cases(6, std::vector<int64_t>(static_cast<size_t>(ranks)));
  for (int r = 0; r < ranks; ++r) {
    cases[1][r] = 7;
    cases[2][r] = r % 2 == 0 ? 0 : 2 * r + 1;
    cases[3][r] = 3 * r;
    cases[4][r] = (r * 7919 + 13) % longest;
  }
  cases[5].back() = longest;
  return cases;
}

std::vector<std::byte> segments_of(const std::vector<int64_t>& bytes, int only_rank = -1) {
  std::vector<std::byte> data;
  for (size_t r = 0; r < bytes.size(); ++r) {
    for (int64_t i = 0; i < bytes[r]; ++i) {
      const bool filled = only_rank < 0 || static_cast<int>(r) == only_rank;
      data.push_back(filled ? static_cast<std::byte>(31 * r + i * i % 251 + 1) : std::byte{0});
    }
  }
  return data;
}

// Groups of the first 1, 2 .. all ranks; use(group) runs on their members.
template <typename Use>
void for_groups_of_every_size(const Use& use) {
  Comm& world = test_world();
  for (int size = 1; size <= world.size(); ++size) {
    if (world.rank() < size) {
      std::vector<int> ranks(static_cast<size_t>(size));
      std::iota(ranks.begin(), ranks.end(), 0);
      const std::unique_ptr<Comm> group = world.subgroup(ranks, "some");
      use(*group);
    }
    world.barrier("test");
  }
}

TEST(Comm, AllGatherFillsTheSegmentsOfAllOtherRanksAtEverySize) {
  for_groups_of_every_size([](Comm& group) {
    for (const auto& bytes : segment_sizes(group.size(), 100'003)) {
      std::vector<std::byte> data = segments_of(bytes, group.rank());
      group.all_gather(data, bytes, "test");
      EXPECT_EQ(data, segments_of(bytes)) << "of " << group.size();
    }
  });
}

TEST(Comm, AllGatherIsOneOperationOfTheJournal) {
  Comm& world = test_world();
  const std::vector<int64_t> bytes(static_cast<size_t>(world.size()), 3);
  std::vector<std::byte> data = segments_of(bytes, world.rank());
  const int64_t before = world.journal()->counts()[0];
  world.all_gather(data, bytes, "gathered here");
  EXPECT_EQ(world.journal()->counts()[0], before + 1);
  const JournalRecord newest = *world.journal()->newest();
  EXPECT_STREQ(newest.name, "gathered here");
  EXPECT_TRUE(newest.done);
}

TEST(Comm, ChunksCoverTheBufferOnceAndInOrder) {
  const std::vector<int64_t> counts = {5, 0, 11, 2};
  for (const int64_t most : {1, 2, 5, 7, 18, 100}) {
    std::vector<int64_t> covered(counts.size(), 0);
    int64_t at = 0;
    for (const SegmentChunk& chunk : segment_chunks(counts, most)) {
      EXPECT_EQ(chunk.begin, at);
      int64_t inside = 0;
      for (size_t r = 0; r < counts.size(); ++r) {
        if (chunk.counts[r] > 0) {
          EXPECT_EQ(chunk.offsets[r], inside);
        }
        inside += chunk.counts[r];
        covered[r] += chunk.counts[r];
      }
      EXPECT_LE(inside, most);
      at += inside;
    }
    EXPECT_EQ(covered, counts) << most;
  }
}

// The sums of small whole numbers are exact, whatever their order.
float summand(int rank, int64_t i) { return static_cast<float>((i * 31 + rank * 17) % 1009); }
float sum_over(int ranks, int64_t i) {
  float sum = 0;
  for (int r = 0; r < ranks; ++r) sum += summand(r, i);
  return sum;
}

TEST(Comm, ReduceScatterAndAllGatherInManyChunksGiveWhatOneRequestGives) {
  Comm& world = test_world();
  const PolledComm mpi(MPI_COMM_WORLD);
  for (const auto& counts : segment_sizes(world.size(), 501)) {
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
    const int64_t first =
        std::accumulate(counts.begin(), counts.begin() + world.rank(), int64_t{0});
    std::vector<float> data(static_cast<size_t>(total));
    for (int64_t i = 0; i < total; ++i) data[i] = summand(world.rank(), i);
    for (const int64_t most : {64, 1000}) {
      std::vector<float> own(static_cast<size_t>(counts[world.rank()]), -1);
      SegmentRequests begun = begin_reduce_scatter(mpi, data, counts, own, "test", most);
      EXPECT_EQ(static_cast<int64_t>(begun.requests.size()), (total + most - 1) / most);
      std::vector<std::byte> gathered = segments_of(counts, world.rank());
      SegmentRequests others = begin_all_gather(mpi, gathered, counts, "test", most);
      mpi.wait(others.requests, "test");  // begun later, done first
      mpi.wait(begun.requests, "test");
      for (size_t i = 0; i < own.size(); ++i) {
        ASSERT_EQ(own[i], sum_over(world.size(), first + static_cast<int64_t>(i))) << i;
      }
      EXPECT_EQ(gathered, segments_of(counts));
    }
  }
}

TEST(Comm, AReductionOfMoreThan64MiFloatsIsUnderWayWhileOthersRun) {
  Comm& world = test_world();
  if (world.size() > 2) GTEST_SKIP() << "256 MiB a rank, several times: for two ranks";
  const int64_t total = (int64_t{1} << 26) + 5;
  const std::vector<int64_t> counts = {total / 2 + 1, total - total / 2 - 1};
  std::vector<float> data(static_cast<size_t>(total));
  for (int64_t i = 0; i < total; ++i) data[i] = summand(world.rank(), i);
  // Rank 1 comes last and begins when rank 0's message is there: rank 0 did not wait in the start.
  const auto sent = std::make_shared<int>(1);
  if (world.rank() == 1) {
    int received = 0;
    world.receive(std::as_writable_bytes(std::span(&received, 1)), 0, "test");
  }
  const std::unique_ptr<Comm::Pending> pending =
      world.start_reduce_scatter(data, counts, "long sum");
  if (world.rank() == 0) world.send(std::as_bytes(std::span(sent.get(), 1)), 1, sent, "test");
  pending->progress();
  pending->finish();
  const int64_t first = world.rank() == 0 ? 0 : counts[0];
  int64_t wrong = 0;
  for (int64_t i = first; i < first + counts[world.rank()]; ++i) wrong += data[i] != sum_over(2, i);
  EXPECT_EQ(wrong, 0);
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
