// The ranks of tests/gpu/nccl_comm_test.cc as threads, with stand-ins for CUDA and NCCL: how
// NcclComm uses them is tested without a GPU. And what only stand-ins can show.
#include <gtest/gtest.h>
#include <unistd.h>

#include "csrc/base/error.h"
#include "csrc/comm/nccl/nccl_comm.h"
#include "tests/gpu/nccl_world.h"
#include "tests/support/message_of.h"
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

using testing::message_of;

TEST(FakeNccl, RanksThatDoNotAskForTheSameGetNcclsErrorWithTheOperationsName) {
  testing::run_ranks(2, [](Comm& control) {
    const std::unique_ptr<Comm> comm = make_nccl_comm(control);
    std::vector<float> data(1 + comm->rank());
    const std::string text =
        message_of([&] { comm->all_reduce(std::span(data), ReduceOp::kSum, "gradients"); },
                   ErrorCode::kNcclFailed);
    EXPECT_EQ(text,
              "NCCL failed in `gradients`: invalid usage. Said by the fake. (NCCL_DEBUG=INFO tells "
              "more.)");
  });
}

TEST(FakeNccl, MoreRanksThanGpusOnAHostAreRefused) {
  testing::run_ranks(9, [](Comm& control) {
    if (control.rank() == 8) {
      const std::string text = message_of([&] { make_nccl_comm(control); }, ErrorCode::kNoGpu);
      EXPECT_NE(text.find("8 GPUs, but at least 9 ranks"), std::string::npos) << text;
      return;
    }
    char host[256] = "";  // what make_nccl_comm asks the others for
    gethostname(host, sizeof(host) - 1);
    control.all_gather_text(host, "hosts");
  });
}

}  // namespace
}  // namespace sutor
