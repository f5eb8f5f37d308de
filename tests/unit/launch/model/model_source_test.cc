// The digest of a model's weights is read once.
#include "launch/model/model_source.h"

#include <gtest/gtest.h>

#include "csrc/base/profile.h"
#include "launch/model/session.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

const std::string kModel = std::string(SUTOR_TEST_DATA) + "/golden/models/deepseek_v2_lite";

int64_t reads() {
  for (const ProfileLine& line : profile_lines()) {
    if (line.name == "read base for its digest") return line.calls;
  }
  return 0;
}

TEST(ModelSource, ItsDigestIsReadOnceHoweverOftenItIsAskedFor) {
  const auto world = make_self_comm();
  enable_profile();
  const ModelSource source(kModel);
  EXPECT_EQ(reads(), 0);
  const Digest digest = base_digest(source, *world);
  EXPECT_EQ(base_digest(source, *world), digest);
  EXPECT_EQ(source.digest(), digest);
  EXPECT_EQ(reads(), 1);
  EXPECT_EQ(ModelSource(kModel).digest(), digest);
  EXPECT_EQ(reads(), 2);
}

TEST(ModelSource, OnlyRankZeroReadsItForAll) {
  const Digest expected = ModelSource(kModel).digest();
  testing::run_ranks(3, [&](Comm& world) {
    enable_profile();
    const ModelSource source(kModel);
    EXPECT_EQ(base_digest(source, world), expected);
    EXPECT_EQ(reads(), world.rank() == 0 ? 1 : 0);
  });
}

}  // namespace
}  // namespace sutor
