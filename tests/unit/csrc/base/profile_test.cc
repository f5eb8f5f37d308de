#include "csrc/base/profile.h"

#include <gtest/gtest.h>

#include <thread>

namespace sutor {
namespace {

void spend(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

TEST(Profile, NestedTimeIsCountedOnceInTheInnerScope) {
  enable_profile();
  {
    const ProfileScope outer("outer");
    for (int i = 0; i < 2; ++i) {
      const ProfileScope inner("inner");
      spend(10);
    }
  }
  const std::vector<ProfileLine> lines = profile_lines();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].name, "inner");
  EXPECT_EQ(lines[0].calls, 2);
  EXPECT_GE(lines[0].seconds, 0.02);
  EXPECT_EQ(lines[1].name, "outer");
  EXPECT_LT(lines[1].seconds, lines[0].seconds);
  EXPECT_NE(profile_table().find("everything else"), std::string::npos);
}

TEST(Profile, OtherThreadsAreNotCounted) {
  enable_profile();
  std::thread([] { const ProfileScope scope("elsewhere"); }).join();
  EXPECT_TRUE(profile_lines().empty());
}

}  // namespace
}  // namespace sutor
