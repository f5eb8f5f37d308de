// The order of NcclComm's stream with the stream that computes, on stand-ins whose streams are slow
// and wait for nothing but events.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "csrc/base/error.h"
#include "csrc/comm/nccl/nccl_calls.h"
#include "csrc/comm/nccl/nccl_comm.h"
#include "tests/support/expect_error.h"
#include "tests/support/fake_cuda/fake_cuda.h"
#include "tests/support/fake_cuda/fake_world.h"

namespace sutor {
namespace {

using testing::DeviceArray;
using testing::fake_calls;
using testing::FakeRank;
using testing::launch;
using testing::run_fake_ranks;

using Clock = std::chrono::steady_clock;

thread_local void* current = nullptr;
thread_local std::vector<std::pair<const void*, void*>> recorded;

// Computing on a stream that is not the default one.
const DeviceHooks kHooks{
    [] { return current; },
    [](const void* memory, void* stream) { recorded.emplace_back(memory, stream); }};

void on_ranks_with_streams(int ranks, const std::function<void(FakeRank&)>& test) {
  run_fake_ranks(
      ranks,
      [&](FakeRank& rank) {
        current = testing::new_stream();
        recorded.clear();
        test(rank);
      },
      kHooks);
}

// What the current stream reads when it comes here.
float read_on_current(const DeviceArray<float>& data, size_t at) {
  float value = 0;
  std::atomic<bool> done = false;
  launch(current, [&] {
    value = data.in_stream_order()[at];
    done = true;
  });
  while (!done) std::this_thread::yield();
  return value;
}

TEST(NcclStreams, AnOperationWaitsForWhatTheCurrentStreamComputes) {
  on_ranks_with_streams(2, [](FakeRank& rank) {
    DeviceArray<float> data({0});
    launch(current, [&] { data.in_stream_order()[0] = 5; });  // slowly
    rank.comm->all_reduce(data.span(), ReduceOp::kSum, "sum");
    EXPECT_EQ(read_on_current(data, 0), 10);
  });
}

TEST(NcclStreams, WhatTheCurrentStreamGetsLaterSeesTheResultOfEachOperation) {
  on_ranks_with_streams(2, [](FakeRank& rank) {
    Comm& comm = *rank.comm;
    const std::vector<int64_t> ones(2, 1), fours(2, 4), unequal{1, 2};
    DeviceArray<float> sum({1, 1, 1}), gathered({0, 0}), sent({1, 2}), got({0, 0}), root({0});
    const float mine = static_cast<float>(comm.rank());
    comm.reduce_scatter(sum.span(), unequal, "reduce");
    EXPECT_EQ(read_on_current(sum, comm.rank()), 2);
    launch(current, [&] { gathered.in_stream_order()[comm.rank()] = mine + 1; });
    comm.all_gather(std::as_writable_bytes(gathered.span()), fours, "gather");
    EXPECT_EQ(read_on_current(gathered, 1 - comm.rank()), 2 - mine);
    comm.all_to_all(sent.span().data(), ones, got.span().data(), ones, 4, "exchange");
    EXPECT_EQ(read_on_current(got, 1), mine + 1);
    launch(current, [&] { root.in_stream_order()[0] = mine + 7; });
    comm.broadcast(std::as_writable_bytes(root.span()), 1, "weights");
    EXPECT_EQ(read_on_current(root, 0), 8);
  });
}

TEST(NcclStreams, AMessageWaitsForItsDataAndItsReaderForTheMessage) {
  on_ranks_with_streams(2, [](FakeRank& rank) {
    const auto data = std::make_shared<DeviceArray<float>>(std::vector<float>{0});
    if (rank.comm->rank() == 0) {
      launch(current, [data] { data->in_stream_order()[0] = 3; });
      rank.comm->send(std::as_bytes(data->span()), 1, data, "message");
    } else {
      rank.comm->receive(std::as_writable_bytes(data->span()), 0, "message");
      EXPECT_EQ(read_on_current(*data, 0), 3);
    }
  });
}

TEST(NcclStreams, AStartedReductionLeavesHostAndCurrentStreamFree) {
  on_ranks_with_streams(2, [](FakeRank& rank) {
    const std::vector<int64_t> ones(2, 1);
    DeviceArray<float> data({1, 1}), other({0});
    const auto begin = Clock::now();
    if (rank.comm->rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const auto pending = rank.comm->start_reduce_scatter(data.span(), ones, "gradients");
    if (rank.comm->rank() == 0) {
      // Rank 1 has not even begun, but this one computes.
      launch(current, [&] { other.in_stream_order()[0] = 4; });
      EXPECT_EQ(read_on_current(other, 0), 4);
      EXPECT_EQ(data.in_stream_order()[0], 1);
      EXPECT_LT(Clock::now() - begin, std::chrono::milliseconds(250));
    }
    pending->finish();
    if (rank.comm->rank() == 0) {
      EXPECT_LT(Clock::now() - begin, std::chrono::milliseconds(250));
    }
    EXPECT_EQ(read_on_current(data, rank.comm->rank()), 2);
    EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(250));
  });
}

TEST(NcclStreams, AStartedReductionTellsTheAllocatorOfItsStream) {
  on_ranks_with_streams(2, [](FakeRank& rank) {
    DeviceArray<float> data({1, 1});
    fake_calls() = {};
    rank.comm->start_reduce_scatter(data.span(), std::vector<int64_t>(2, 1), "gradients")->finish();
    ASSERT_EQ(recorded.size(), 1);
    EXPECT_EQ(recorded[0].first, data.span().data());
    EXPECT_EQ(std::vector{recorded[0].second}, fake_calls().streams);
  });
}

TEST(NcclStreams, AllGroupsOfARankCommunicateOnOneStreamThatIsNotTheCurrentOne) {
  on_ranks_with_streams(4, [](FakeRank& rank) {
    Comm& comm = *rank.comm;
    const int mine = comm.rank();
    const auto pair = comm.subgroup(std::vector{mine / 2 * 2, mine / 2 * 2 + 1}, "ep");
    const auto across = comm.subgroup(std::vector{mine % 2, mine % 2 + 2}, "dp");
    DeviceArray<float> data({1, 1}), got({0, 0});
    fake_calls() = {};
    const std::vector<int64_t> ones(2, 1);
    const auto pending = across->start_reduce_scatter(data.span(), ones, "gradients");
    pair->all_to_all(data.span().data(), ones, got.span().data(), ones, 4, "dispatch");
    comm.all_reduce(got.span(), ReduceOp::kMax, "maximum");
    pending->finish();
    pair->all_reduce(data.span(), ReduceOp::kSum, "sum");
    ASSERT_EQ(fake_calls().streams.size(), 1);
    EXPECT_NE(fake_calls().streams[0], current);
  });
}

TEST(NcclStreams, ABarrierWaitsForTheRanksOwnOperations) {
  on_ranks_with_streams(2, [](FakeRank& rank) {
    DeviceArray<float> data({1});
    if (rank.comm->rank() == 1) {
      launch(current, [&] { std::this_thread::sleep_for(std::chrono::milliseconds(100)); });
    }
    rank.comm->all_reduce(data.span(), ReduceOp::kSum, "sum");
    rank.comm->barrier("end");
    EXPECT_EQ(data.in_stream_order()[0], 2);
  });
}

TEST(NcclStreams, AWaitOfTheHostGivesUpAfterTheLimitWithTheOperationsName) {
  on_ranks_with_streams(2, [](FakeRank& rank) {
    const auto stream = static_cast<cudaStream_t>(current);
    std::atomic<bool> go = false;
    launch(stream, [&] {
      while (!go) std::this_thread::yield();
    });
    ncclUniqueId id{};
    ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    ncclComm_t comm = nullptr;
    ASSERT_EQ(ncclCommInitRank(&comm, 1, id, 0), ncclSuccess);
    const std::string text = testing::expect_error(
        ErrorCode::kCommTimeout, [&] { nccl::wait(stream, comm, "sum", "save", 0.05); });
    EXPECT_NE(text.find("on the GPU in `save` for the other ranks"), std::string::npos) << text;
    go = true;
    nccl::wait(stream, comm, "sum", "save");
  });
}

TEST(NcclStreams, ARankThatFailsLeavesWithoutWaitingForTheOthers) {
  on_ranks_with_streams(2, [](FakeRank& rank) {
    DeviceArray<float> data({1, 1});
    if (rank.comm->rank() == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      rank.comm->all_reduce(data.span(), ReduceOp::kSum, "sum");
      return;
    }
    const auto begin = Clock::now();
    try {
      std::unique_ptr<Comm> comm = std::move(rank.comm);
      comm->all_reduce(data.span(), ReduceOp::kSum, "sum");
      fail(ErrorCode::kDiverged, "its own error");
    } catch (const Error&) {
    }
    EXPECT_LT(Clock::now() - begin, std::chrono::milliseconds(250));
    EXPECT_EQ(data.in_stream_order()[0], 1);  // it is still under way
  });
}

TEST(NcclStreams, TheJournalHasAnOperationOpenUntilTheGpuHasDoneIt) {
  on_ranks_with_streams(2, [](FakeRank& rank) {
    DeviceArray<float> data({1});
    std::atomic<bool> go = false;
    launch(current, [&] {
      while (!go) std::this_thread::yield();
    });
    rank.comm->all_reduce(data.span(), ReduceOp::kSum, "first");
    rank.comm->all_reduce(data.span(), ReduceOp::kSum, "second");
    const Journal& journal = rank.records->journal;
    EXPECT_STREQ(journal.current()->name, "first");
    EXPECT_FALSE(journal.current()->done);
    EXPECT_TRUE(journal.current()->on_device);
    EXPECT_STREQ(journal.newest()->name, "second");
    go = true;
    const auto begin = Clock::now();
    while (!journal.current()->done && Clock::now() - begin < std::chrono::seconds(10)) {
      std::this_thread::yield();
    }
    EXPECT_TRUE(journal.current()->done);
    EXPECT_STREQ(journal.current()->name, "second");
  });
}

TEST(NcclStreams, OneRankCopiesItsRowsOnTheCurrentStream) {
  on_ranks_with_streams(1, [](FakeRank& rank) {
    DeviceArray<float> data({0}), got({0});
    const int64_t one = 1;
    launch(current, [&] { data.in_stream_order()[0] = 6; });
    rank.comm->all_to_all(data.span().data(), std::span(&one, 1), got.span().data(),
                          std::span(&one, 1), 4, "exchange");
    EXPECT_EQ(read_on_current(got, 0), 6);
    EXPECT_EQ(fake_calls().operations, 0);
  });
}

}  // namespace
}  // namespace sutor
