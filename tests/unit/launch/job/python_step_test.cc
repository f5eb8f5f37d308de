// Scripts of tools/: with which command they start, what is read of them, and how they end. Shells
// stand in for Python.
#include "launch/job/python_step.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "csrc/base/error.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::expect_error;

class PythonStep : public ::testing::Test {
 protected:
  void TearDown() override { ::unsetenv("SUTOR_PYTHON"); }

  // `script` is run instead of Python, with Python's arguments.
  void stand_in(const std::string& script) {
    const std::filesystem::path path = folder_.write("python", "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    ::setenv("SUTOR_PYTHON", path.c_str(), 1);
  }

  testing::TempDir folder_;
};

TEST_F(PythonStep, TheScriptGetsItsJobAndItsOutputIsRead) {
  stand_in("printf '%s|' \"$@\"");
  const nlohmann::json job = {{"text", "a \"b\" 好"}, {"n", 1}};
  const PythonOutput output = read_python_step("score.py", job);
  EXPECT_EQ(output.exit_code, 0);
  EXPECT_EQ(output.text.substr(0, 4), "-B|/");
  const std::string end = "/tools/score.py|" + job.dump() + "|";
  ASSERT_GT(output.text.size(), end.size());
  EXPECT_EQ(output.text.substr(output.text.size() - end.size()), end);
}

TEST_F(PythonStep, OutputMayBeLong) {
  stand_in("head -c 3000000 /dev/zero | tr '\\0' x");
  EXPECT_EQ(read_python_step("score.py", {}).text, std::string(3'000'000, 'x'));
}

TEST_F(PythonStep, ExitCodesAndSignalsAreReturned) {
  stand_in("exit 3");
  EXPECT_EQ(run_python_step("score.py", {}), 3);
  EXPECT_EQ(read_python_step("score.py", {}).exit_code, 3);
  stand_in("kill -TERM $$");
  EXPECT_EQ(run_python_step("score.py", {}), 128 + 15);
}

TEST_F(PythonStep, WhatIsMissingIsNamed) {
  ::setenv("SUTOR_PYTHON", "/nowhere/python", 1);
  expect_error(ErrorCode::kNoPythonStep, {"/nowhere/python"},
               [] { run_python_step("score.py", {}); });
  expect_error(ErrorCode::kNoPythonStep, {"tools/gone.py"}, [] { run_python_step("gone.py", {}); });
}

}  // namespace
}  // namespace sutor
