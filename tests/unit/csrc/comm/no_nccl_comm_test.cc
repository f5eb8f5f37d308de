// The error of a build without NCCL when NCCL is requested.
#include <gtest/gtest.h>

#include <functional>

#include "csrc/comm/nccl/nccl_comm.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

TEST(NoNcclComm, NamesTheOptionThatIsMissing) {
  const auto control = make_self_comm();
  for (const auto& ask : {std::function<void()>([&] { make_nccl_comm(*control, 0); }),
                          std::function<void()>([&] { take_device(*control); })}) {
    const std::string text = testing::expect_error(ErrorCode::kNoNccl, ask);
    EXPECT_NE(text.find("built without NCCL: configure with -DSUTOR_CUDA=ON"), std::string::npos);
  }
}

}  // namespace
}  // namespace sutor
