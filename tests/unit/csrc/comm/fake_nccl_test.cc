// The ranks of tests/gpu/nccl_comm_test.cc as threads, with stand-ins for CUDA and NCCL: how
// NcclComm uses them is tested without a GPU. And what only stand-ins can show.
#include <gtest/gtest.h>

#include "csrc/base/error.h"
#include "csrc/base/host.h"
#include "csrc/comm/nccl/nccl_comm.h"
#include "tests/gpu/nccl_world.h"
#include "tests/support/expect_error.h"
#include "tests/support/thread_comm.h"

namespace sutor {

std::string no_ranks_because() { return ""; }

void on_all_ranks(const std::function<void(Comm&)>& test) {
  for (const int ranks : {1, 2, 3, 4}) {
    testing::run_ranks(ranks, [&](Comm& control) {
      const std::unique_ptr<Comm> comm = make_nccl_comm(control);
      test(*comm);
    });
  }
}

namespace {

using testing::expect_error;

TEST(FakeNccl, RanksThatDoNotAskForTheSameGetNcclsErrorWithTheOperationsName) {
  testing::run_ranks(2, [](Comm& control) {
    const std::unique_ptr<Comm> comm = make_nccl_comm(control);
    std::vector<float> data(1 + comm->rank());
    const std::string text = expect_error(ErrorCode::kNcclFailed, [&] {
      comm->all_reduce(std::span(data), ReduceOp::kSum, "gradients");
    });
    EXPECT_EQ(text,
              "NCCL failed in `gradients`: invalid usage. Said by the fake. (NCCL_DEBUG=INFO tells "
              "more.)");
  });
}

TEST(FakeNccl, MoreRanksThanGpusOnAHostAreRefused) {
  testing::run_ranks(9, [](Comm& control) {
    if (control.rank() == 8) {
      const std::string text = expect_error(ErrorCode::kNoGpu, [&] { make_nccl_comm(control); });
      EXPECT_NE(text.find("8 GPUs, but at least 9 ranks"), std::string::npos) << text;
      return;
    }
    control.all_gather_text(host_name(), "hosts");  // what make_nccl_comm asks the others for
  });
}

}  // namespace
}  // namespace sutor
