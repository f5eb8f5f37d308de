// What the kernel says of this machine.
#include "csrc/base/process/host.h"

#include <gtest/gtest.h>
#include <sys/utsname.h>

namespace sutor {
namespace {

TEST(Host, NameIsThatOfTheKernel) {
  struct utsname system;
  ASSERT_EQ(::uname(&system), 0);
  EXPECT_EQ(host_name(), system.nodename);
}

TEST(Host, BootIdIsAUuidThatStays) {
  const std::string id = boot_id();
  ASSERT_EQ(id.size(), 36u);
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef-"), std::string::npos);
  EXPECT_EQ(boot_id(), id);
}

}  // namespace
}  // namespace sutor
