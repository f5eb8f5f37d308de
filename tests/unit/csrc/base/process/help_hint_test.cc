// Which error of a message a person is told to ask for.
#include "csrc/base/process/help_hint.h"

#include <gtest/gtest.h>

namespace sutor {
namespace {

TEST(HelpHint, TheErrorOfTheFirstLineIsNamedWhereverItStands) {
  EXPECT_EQ(error_named_in("error[E0201]: no key"), "E0201");
  EXPECT_EQ(error_named_in("rank 1: my.yaml:3:1: error[E0301]: x\nerror[E0302]: y"), "E0301");
}

TEST(HelpHint, MessagesWithoutAnErrorNameNone) {
  for (const char* text : {"", "stopped", "warning[W0341]: x", "x\nerror[E0302]: y", "error[E02"}) {
    EXPECT_EQ(error_named_in(text), "") << text;
  }
}

}  // namespace
}  // namespace sutor
