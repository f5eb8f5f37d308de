// What a build without NCCL says when it is asked for.
#include <gtest/gtest.h>

#include "csrc/comm/nccl/nccl_comm.h"
#include "tests/support/message_of.h"

namespace sutor {
namespace {

TEST(NoNcclComm, NamesTheOptionThatIsMissing) {
  const std::string text =
      testing::message_of([] { make_nccl_comm(*make_self_comm()); }, ErrorCode::kNoNccl);
  EXPECT_NE(text.find("built without NCCL: configure with -DSUTOR_CUDA=ON"), std::string::npos);
}

}  // namespace
}  // namespace sutor
