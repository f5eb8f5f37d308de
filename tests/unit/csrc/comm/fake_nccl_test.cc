// Runs tests/gpu/nccl_comm_test.cc with threads as ranks and stand-ins for CUDA and NCCL, so that
// NcclComm is tested without a GPU; and tests what only stand-ins can show: which world an
// operation takes, and what goes wrong.
#include <gtest/gtest.h>

#include "csrc/base/error.h"
#include "csrc/comm/nccl/nccl_comm.h"
#include "tests/gpu/nccl_world.h"
#include "tests/support/expect_error.h"
#include "tests/support/fake_cuda/fake_cuda.h"
#include "tests/support/fake_cuda/fake_world.h"
#include "tests/support/thread_comm.h"

namespace sutor {

std::string no_ranks_because() { return ""; }

void on_all_ranks(const std::function<void(Comm&)>& test) {
  for (const int ranks : {1, 2, 3, 4}) {
    testing::run_fake_ranks(ranks, [&](testing::FakeRank& rank) { test(*rank.comm); });
  }
}

namespace {

using testing::DeviceArray;
using testing::expect_error;
using testing::fake_calls;
using testing::FakeRank;
using testing::run_fake_ranks;

// One operation of each kind that all ranks can do with `data`, of four floats a rank.
void communicate(Comm& comm, std::span<float> data) {
  const std::vector<int64_t> counts(comm.size(), 4), bytes(comm.size(), 16), rows(comm.size(), 2);
  comm.all_reduce(data, ReduceOp::kMax, "maximum");
  comm.reduce_scatter(data, counts, "reduce");
  comm.start_reduce_scatter(data, counts, "reduce in parts")->finish();
  comm.all_gather(std::as_writable_bytes(data), bytes, "gather");
  comm.all_to_all(data.data(), rows, data.data() + 4 * comm.size(), rows, 8, "exchange");
  comm.broadcast(std::as_writable_bytes(data), 0, "weights");
  if (comm.rank() == 0) {
    comm.send(std::as_bytes(data.first(1)), 1, nullptr, "message");
    comm.await_sends(0, "message");
  } else if (comm.rank() == 1) {
    comm.receive(std::as_writable_bytes(data.first(1)), 0, "message");
  }
}

TEST(TwoWorlds, HostMemoryNeverReachesNccl) {
  run_fake_ranks(3, [](FakeRank& rank) {
    std::vector<float> data(8 * 3, 1.0f);
    fake_calls() = {};
    communicate(*rank.comm, std::span(data).first(4 * 3));
    EXPECT_EQ(fake_calls().operations, 0);
    EXPECT_EQ(fake_calls().copies, 0);
  });
}

TEST(TwoWorlds, DeviceMemoryNeverReachesTheControlCommunicator) {
  run_fake_ranks(3, [](FakeRank& rank) {
    DeviceArray<float> data(std::vector<float>(8 * 3, 1.0f));
    communicate(*rank.comm, data.span().first(4 * 3));  // makes the link of ranks 0 and 1
    const int64_t before = rank.records->operations;
    fake_calls() = {};
    communicate(*rank.comm, data.span().first(4 * 3));
    EXPECT_EQ(rank.records->operations, before);  // none of memory that is not device memory either
    EXPECT_GE(fake_calls().operations, 6);
    rank.comm->barrier("end");
  });
}

TEST(TwoWorlds, OperationsNeitherAllocateNorFreeNorCopyDeviceMemory) {
  run_fake_ranks(2, [](FakeRank& rank) {
    DeviceArray<float> small(std::vector<float>(8 * 2, 1.0f)), large(std::vector<float>(1 << 16));
    fake_calls() = {};
    communicate(*rank.comm, small.span().first(8));
    rank.comm->all_reduce(large.span(), ReduceOp::kSum, "growing");
    communicate(*rank.comm, large.span().first(8));
    rank.comm->barrier("end");
    EXPECT_EQ(fake_calls().allocations, 0);
    EXPECT_EQ(fake_calls().frees, 0);
    EXPECT_EQ(fake_calls().copies, 0);
  });
}

TEST(TwoWorlds, TheJournalsOfAllRanksHaveTheSameDigestOfBoth) {
  run_fake_ranks(3, [](FakeRank& rank) {
    Comm& comm = *rank.comm;
    DeviceArray<float> device(std::vector<float>(8 * 3, 1.0f));
    std::vector<float> host(8 * 3, 1.0f);
    const uint64_t before = comm.order_digest();
    communicate(comm, device.span().first(4 * 3));
    communicate(comm, std::span(host).first(4 * 3));
    // No rows on rank 2, which counts the operation all the same.
    std::vector<int64_t> rows(3, 0);
    if (comm.rank() < 2) rows[1 - comm.rank()] = 1;
    comm.all_to_all(comm.rank() < 2 ? device.span().data() : nullptr, rows,
                    comm.rank() < 2 ? device.span().data() + 1 : nullptr, rows, 4, "some");
    const uint64_t digest = comm.order_digest();
    EXPECT_NE(digest, before);
    for (const std::string& other : comm.all_gather_text(std::to_string(digest), "digests")) {
      EXPECT_EQ(other, std::to_string(digest));
    }
  });
}

TEST(TwoWorlds, OneCallMustNotMixThem) {
  run_fake_ranks(2, [](FakeRank& rank) {
    DeviceArray<float> device({1, 1});
    std::vector<float> host(2);
    const std::vector<int64_t> rows(2, 1);
    expect_error(ErrorCode::kBrokenInvariant, [&] {
      rank.comm->all_to_all(device.span().data(), rows, host.data(), rows, 4, "mixed");
    });
  });
}

TEST(FakeNccl, AnErrorOnTheGpuIsThrownByTheNextCallWithBothNames) {
  run_fake_ranks(2, [](FakeRank& rank) {
    DeviceArray<float> data({1, 1, 1});
    rank.comm->all_reduce(data.span().first(1 + rank.comm->rank()), ReduceOp::kSum, "gradients");
    data.values();  // waits
    const std::string text = expect_error(ErrorCode::kNcclFailed, [&] {
      rank.comm->all_reduce(data.span(), ReduceOp::kSum, "norm");
    });
    EXPECT_EQ(text,
              "NCCL failed in `gradients` or before it, seen in `norm`: invalid usage. Said by the "
              "fake. (NCCL_DEBUG=INFO tells more.)");
  });
}

TEST(FakeNccl, AnErrorOnTheGpuIsThrownByABarrierAndByFinish) {
  run_fake_ranks(2, [](FakeRank& rank) {
    const int64_t mine = 1 + rank.comm->rank();  // they do not agree
    DeviceArray<float> data({1, 1, 1, 1});
    const auto pending = rank.comm->start_reduce_scatter(data.span().first(2 * mine),
                                                         std::vector<int64_t>{mine, mine}, "sum");
    const std::string text =
        expect_error(ErrorCode::kNcclFailed, [&] { rank.comm->barrier("end"); });
    EXPECT_NE(text.find("NCCL failed in `sum` or before it, seen in `end`"), std::string::npos);
    expect_error(ErrorCode::kNcclFailed, [&] { pending->finish(); });
  });
}

TEST(FakeNccl, WhatNcclRefusesAtOnceIsThrownAtOnce) {
  run_fake_ranks(2, [](FakeRank& rank) {
    DeviceArray<float> data({1});
    const std::string text = expect_error(ErrorCode::kNcclFailed, [&] {
      rank.comm->all_reduce(std::span(data.span().data(), 1000), ReduceOp::kSum, "gradients");
    });
    EXPECT_EQ(text,
              "NCCL failed in `gradients`: invalid argument. Said by the fake. (NCCL_DEBUG=INFO "
              "tells more.)");
  });
}

TEST(FakeNccl, MoreRanksThanGpusOnAHostAreRefusedOnAllRanks) {
  testing::run_ranks(9, [](Comm& control) {
    const std::string text = expect_error(ErrorCode::kNoGpu, [&] { take_device(control); });
    EXPECT_NE(text.find("found 9 ranks and 8 GPUs on host"), std::string::npos) << text;
  });
}

TEST(FakeNccl, RanksThatSeeAGpuOfTheirOwnTakeIt) {
  testing::run_ranks(2, [](Comm& control) {
    testing::see_gpus({3 + control.rank()});
    EXPECT_EQ(take_device(control), 0);
  });
}

TEST(FakeNccl, RanksThatSeeTheSameSingleGpuAreRefused) {
  testing::run_ranks(2, [](Comm& control) {
    testing::see_gpus({3});
    const std::string text = expect_error(ErrorCode::kNoGpu, [&] { take_device(control); });
    EXPECT_NE(text.find("found 2 ranks and 1 GPU on host"), std::string::npos) << text;
  });
}

}  // namespace
}  // namespace sutor
