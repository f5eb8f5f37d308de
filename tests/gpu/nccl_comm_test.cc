// Checks NcclComm against the definitions of Comm, with data on the host and on the device.
#include "csrc/comm/nccl/nccl_comm.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "csrc/base/error.h"
#include "tests/gpu/nccl_world.h"

namespace sutor {
namespace {

enum class Where { kHost, kDevice };

// An array in either memory. Device memory stays until the process ends: cudaFree would wait for
// the whole GPU, and so for other ranks.
template <typename T>
class Array {
 public:
  Array(std::vector<T> values, Where where) : host_(std::move(values)) {
    if (where == Where::kHost) return;
    EXPECT_EQ(cudaMalloc(&device_, bytes() + 1), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(device_, host_.data(), bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  Array(const Array&) = delete;
  std::span<T> data() { return {device_ ? static_cast<T*>(device_) : host_.data(), host_.size()}; }
  std::vector<T> values() {
    if (device_) {
      EXPECT_EQ(cudaMemcpy(host_.data(), device_, bytes(), cudaMemcpyDeviceToHost), cudaSuccess);
    }
    return host_;
  }

 private:
  size_t bytes() const { return host_.size() * sizeof(T); }
  std::vector<T> host_;
  void* device_ = nullptr;
};

class BothMemoriesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!no_ranks_because().empty()) GTEST_SKIP() << no_ranks_because();
  }
};

class NcclCommTest : public BothMemoriesTest, public ::testing::WithParamInterface<Where> {};

INSTANTIATE_TEST_SUITE_P(Memory, NcclCommTest, ::testing::Values(Where::kHost, Where::kDevice),
                         [](const auto& info) {
                           return info.param == Where::kHost ? "Host" : "Device";
                         });

template <typename T>
void expect_reductions(Comm& comm, Where where) {
  const T n = static_cast<T>(comm.size()), rank = static_cast<T>(comm.rank());
  const struct {
    ReduceOp op;
    T first, second;
  } cases[] = {
      {ReduceOp::kSum, n * (n - 1) / 2, n}, {ReduceOp::kMax, n - 1, 1}, {ReduceOp::kMin, 0, 1}};
  for (const auto& c : cases) {
    Array<T> data({rank, T{1}}, where);
    comm.all_reduce(data.data(), c.op, "test");
    EXPECT_EQ(data.values(), (std::vector<T>{c.first, c.second}));
  }
}

TEST_P(NcclCommTest, AllReduceTakesSumMaximumAndMinimumOfEachType) {
  on_all_ranks([](Comm& comm) {
    expect_reductions<float>(comm, GetParam());
    expect_reductions<double>(comm, GetParam());
    expect_reductions<int64_t>(comm, GetParam());
    comm.all_reduce(std::span<float>(), ReduceOp::kSum, "nothing");
  });
}

void expect_reduce_scatter(Comm& comm, const std::vector<int64_t>& counts, Where where) {
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  std::vector<float> values;
  for (int64_t i = 0; i < total; ++i) values.push_back(static_cast<float>(i + comm.rank()));
  Array<float> data(values, where);
  comm.reduce_scatter(data.data(), counts, "test");
  const std::vector<float> result = data.values();
  const int64_t begin = std::accumulate(counts.begin(), counts.begin() + comm.rank(), int64_t{0});
  const float ranks = static_cast<float>(comm.size());
  for (int64_t i = begin; i < begin + counts[comm.rank()]; ++i) {
    EXPECT_EQ(result[i], static_cast<float>(i) * ranks + ranks * (ranks - 1) / 2);
  }
}

TEST_P(NcclCommTest, AStartedReduceScatterIsThereWhenItIsFinished) {
  on_all_ranks([](Comm& comm) {
    const std::vector<int64_t> counts(comm.size(), 1 << 10);
    Array<float> data(std::vector<float>(comm.size() << 10, 1.0f), GetParam());
    const auto pending = comm.start_reduce_scatter(data.data(), counts, "test");
    Array<int64_t> one({1}, GetParam());
    comm.all_reduce(one.data(), ReduceOp::kSum, "in between");
    EXPECT_EQ(one.values()[0], comm.size());
    pending->progress();
    pending->finish();
    EXPECT_EQ(data.values()[comm.rank() << 10], static_cast<float>(comm.size()));
  });
}

TEST_P(NcclCommTest, ReduceScatterGivesEachRankItsChunkEqualOrNot) {
  on_all_ranks([](Comm& comm) {
    std::vector<int64_t> unequal;
    for (int r = 0; r < comm.size(); ++r) unequal.push_back(3 * r);  // rank 0 owns nothing
    expect_reduce_scatter(comm, unequal, GetParam());
    expect_reduce_scatter(comm, std::vector<int64_t>(comm.size(), 5), GetParam());
  });
}

void expect_all_gather(Comm& comm, const std::vector<int64_t>& bytes, Where where) {
  std::vector<std::byte> expected, values;
  for (int r = 0; r < comm.size(); ++r) {
    for (int64_t i = 0; i < bytes[r]; ++i) {
      expected.push_back(static_cast<std::byte>(16 * r + i));
      values.push_back(r == comm.rank() ? expected.back() : std::byte{255});
    }
  }
  Array<std::byte> data(values, where);
  comm.all_gather(data.data(), bytes, "test");
  EXPECT_EQ(data.values(), expected);
}

TEST_P(NcclCommTest, AllGatherFillsInTheOthersChunksEqualOrNot) {
  on_all_ranks([](Comm& comm) {
    std::vector<int64_t> unequal;
    for (int r = 0; r < comm.size(); ++r) unequal.push_back(2 * r);
    expect_all_gather(comm, unequal, GetParam());
    expect_all_gather(comm, std::vector<int64_t>(comm.size(), 3), GetParam());
  });
}

// Rank s sends d + s rows of two numbers to rank d, none from 0 to 0.
void expect_all_to_all(Comm& comm, Where where) {
  std::vector<int64_t> send_rows, recv_rows;
  std::vector<int32_t> sent, expected;
  for (int other = 0; other < comm.size(); ++other) {
    send_rows.push_back(other + comm.rank());
    recv_rows.push_back(other + comm.rank());
    for (int i = 0; i < other + comm.rank(); ++i) {
      sent.insert(sent.end(), {comm.rank(), other});
      expected.insert(expected.end(), {other, comm.rank()});
    }
  }
  Array<int32_t> send(sent, where), recv(std::vector<int32_t>(expected.size(), -1), where);
  comm.all_to_all(send.data().data(), send_rows, recv.data().data(), recv_rows, 8, "test");
  EXPECT_EQ(recv.values(), expected);
}

TEST_P(NcclCommTest, AllToAllBringsEachRowToItsRank) {
  on_all_ranks([](Comm& comm) { expect_all_to_all(comm, GetParam()); });
}

TEST_F(BothMemoriesTest, RanksWithoutRowsPassNullToAnExchangeOfDeviceMemory) {
  on_all_ranks([](Comm& comm) {
    std::vector<int64_t> send_rows(comm.size(), 0), recv_rows(comm.size(), 0);
    const int last = comm.size() - 1;  // sends to rank 0, and nobody else does anything
    if (comm.rank() == last) send_rows[0] = 1;
    if (comm.rank() == 0) recv_rows[last] = 1;
    Array<int32_t> send({7}, Where::kDevice), recv({-1}, Where::kDevice);
    comm.all_to_all(comm.rank() == last ? send.data().data() : nullptr, send_rows,
                    comm.rank() == 0 ? recv.data().data() : nullptr, recv_rows, 4, "test");
    EXPECT_EQ(recv.values()[0], comm.rank() == 0 ? 7 : -1);
    comm.barrier("test");
  });
}

TEST_P(NcclCommTest, ARankExchangesRowsWithItself) {
  on_all_ranks([](Comm& comm) {
    std::vector<int64_t> rows(comm.size(), 0);
    rows[comm.rank()] = 2;
    Array<int32_t> send({7, comm.rank()}, GetParam()), recv({-1, -1}, GetParam());
    comm.all_to_all(send.data().data(), rows, recv.data().data(), rows, 4, "test");
    EXPECT_EQ(recv.values(), (std::vector<int32_t>{7, comm.rank()}));
  });
}

TEST_P(NcclCommTest, BroadcastTakesTheRootsData) {
  on_all_ranks([](Comm& comm) {
    for (int root = 0; root < comm.size(); ++root) {
      Array<std::byte> data(std::vector<std::byte>(5, static_cast<std::byte>(comm.rank())),
                            GetParam());
      comm.broadcast(data.data(), root, "test");
      EXPECT_EQ(data.values(), std::vector<std::byte>(5, static_cast<std::byte>(root)));
    }
  });
}

TEST_P(NcclCommTest, OperationsInSequenceSeeEachOthersResults) {
  on_all_ranks([](Comm& comm) {
    Array<float> data({1.0f}, GetParam());
    for (int i = 0; i < 10; ++i) comm.all_reduce(data.data(), ReduceOp::kSum, "test");
    comm.broadcast(std::as_writable_bytes(data.data()), 0, "test");
    comm.barrier("test");
    EXPECT_EQ(data.values()[0], static_cast<float>(std::pow(comm.size(), 10)));
  });
}

TEST_P(NcclCommTest, SubgroupsKeepTheOrderOfRanksAndMayHaveSubgroups) {
  on_all_ranks([](Comm& comm) {
    std::vector<int> ranks;
    for (int r = comm.size() - 1; r >= 0; --r) {
      if (r % 2 == comm.rank() % 2) ranks.push_back(r);
    }
    const auto half = comm.subgroup(ranks, "half");
    EXPECT_EQ(half->size(), static_cast<int>(ranks.size()));
    EXPECT_EQ(ranks[half->rank()], comm.rank());
    EXPECT_EQ(half->name(), "half");
    Array<int64_t> one({1}, GetParam());
    half->all_reduce(one.data(), ReduceOp::kSum, "test");
    EXPECT_EQ(one.values()[0], half->size());
    const int mine = half->rank();
    const auto alone = half->subgroup(std::span(&mine, 1), "alone");
    EXPECT_EQ(alone->size(), 1);
    alone->all_reduce(one.data(), ReduceOp::kSum, "test");
    EXPECT_EQ(one.values()[0], half->size());
    half->barrier("test");
  });
}

TEST_P(NcclCommTest, MessagesArriveInTheOrderOfSendingThoughNobodyWaitsForThem) {
  on_all_ranks([](Comm& comm) {
    if (comm.size() == 1) return;
    const int next = (comm.rank() + 1) % comm.size();
    const int previous = (comm.rank() + comm.size() - 1) % comm.size();
    constexpr int kMessages = 3;
    std::vector<std::weak_ptr<Array<int>>> alive;
    for (int m = 0; m < kMessages; ++m) {
      const auto data =
          std::make_shared<Array<int>>(std::vector<int>(1 << 18, 10 * comm.rank() + m), GetParam());
      comm.send(std::as_bytes(data->data()), next, data, "test");
      alive.push_back(data);
    }
    comm.send({}, next, nullptr, "nothing");
    comm.receive({}, previous, "nothing");
    for (int m = 0; m < kMessages; ++m) {
      Array<int> data(std::vector<int>(1 << 18), GetParam());
      comm.receive(std::as_writable_bytes(data.data()), previous, "test");
      EXPECT_EQ(data.values(), std::vector<int>(1 << 18, 10 * previous + m));
    }
    comm.await_sends(0, "test");
    for (const auto& data : alive) EXPECT_TRUE(data.expired());
    comm.barrier("test");
  });
}

TEST_P(NcclCommTest, NeighboursMaySendToEachOtherBetweenCollectives) {
  on_all_ranks([](Comm& comm) {
    for (int round = 0; round < 3; ++round) {
      const int other = comm.rank() ^ 1;
      const auto data =
          std::make_shared<Array<int>>(std::vector<int>{comm.rank(), round}, GetParam());
      if (other < comm.size()) comm.send(std::as_bytes(data->data()), other, data, "test");
      Array<float> sum({1.0f}, GetParam());
      comm.all_reduce(sum.data(), ReduceOp::kSum, "test");
      EXPECT_EQ(sum.values()[0], static_cast<float>(comm.size()));
      if (other >= comm.size()) continue;
      Array<int> received({-1, -1}, GetParam());
      comm.receive(std::as_writable_bytes(received.data()), other, "test");
      EXPECT_EQ(received.values(), (std::vector<int>{other, round}));
    }
  });
}

TEST_P(NcclCommTest, AwaitingSendsLetsTheNewestBeUnderWay) {
  on_all_ranks([](Comm& comm) {
    const int64_t size = comm.size();
    if (size == 1) return;
    if (comm.rank() == 0) {
      const auto first = std::make_shared<Array<int>>(std::vector<int>{1}, GetParam());
      const auto second = std::make_shared<Array<int>>(std::vector<int>{2}, GetParam());
      comm.send(std::as_bytes(first->data()), 1, first, "first");
      comm.send(std::as_bytes(second->data()), 1, second, "second");
      comm.await_sends(1, "first");  // rank 1 receives the second only after the barrier
      comm.barrier("first has left");
      comm.await_sends(0, "second");
    } else {
      Array<int> data({0}, GetParam());
      if (comm.rank() == 1) comm.receive(std::as_writable_bytes(data.data()), 0, "first");
      comm.barrier("first has left");
      if (comm.rank() == 1) {
        comm.receive(std::as_writable_bytes(data.data()), 0, "second");
        EXPECT_EQ(data.values()[0], 2);
      }
    }
    comm.barrier("end");
  });
}

TEST_F(BothMemoriesTest, AwaitingSendsCountsThoseOfBothMemories) {
  on_all_ranks([](Comm& comm) {
    if (comm.size() == 1) return;
    const auto host = std::make_shared<Array<int>>(std::vector<int>{1}, Where::kHost);
    const auto device = std::make_shared<Array<int>>(std::vector<int>{2}, Where::kDevice);
    if (comm.rank() == 0) {
      comm.send(std::as_bytes(device->data()), 1, device, "first");
      comm.send(std::as_bytes(host->data()), 1, host, "second");
      comm.await_sends(1, "first");
      comm.barrier("first has left");
      comm.await_sends(0, "second");
      return;
    }
    Array<int> first({0}, Where::kDevice), second({0}, Where::kHost);
    if (comm.rank() == 1) comm.receive(std::as_writable_bytes(first.data()), 0, "first");
    comm.barrier("first has left");
    if (comm.rank() > 1) return;
    comm.receive(std::as_writable_bytes(second.data()), 0, "second");
    EXPECT_EQ(first.values()[0], 2);
    EXPECT_EQ(second.values()[0], 1);
  });
}

TEST_P(NcclCommTest, TextsOfUnequalLengthAreGathered) {
  on_all_ranks([](Comm& comm) {
    const auto all = comm.all_gather_text(std::string(comm.rank() * 5, 'x'), "test");
    for (int r = 0; r < comm.size(); ++r) EXPECT_EQ(all[r], std::string(r * 5, 'x'));
    EXPECT_EQ(comm.broadcast_text(comm.rank() == 0 ? "hello" : "", 0, "test"), "hello");
  });
}

}  // namespace
}  // namespace sutor
