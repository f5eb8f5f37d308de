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

TEST_F(PythonStep, AnErrorOfAScriptEndsTheJobWithTheExitCodeOfTheScript) {
  for (const int exit_code : {kExitUsage, kExitData, kExitResources}) {
    EXPECT_EQ(exit_code_of(step_error(exit_code)), exit_code);
  }
  for (const int exit_code : {1, 128 + 9}) {  // a traceback, a signal
    EXPECT_EQ(step_error(exit_code), ErrorCode::kPythonStepDied);
  }
}

TEST_F(PythonStep, AScriptThatALimitEndedIsReported) {
  for (const char* signal : {"KILL", "ABRT", "VTALRM"}) {
    stand_in(std::string("kill -") + signal + " $$");
    expect_error(ErrorCode::kStepLimit, {"tools/score.py was ended by signal"},
                 [] { run_python_step("score.py", {}); });
  }
  stand_in("kill -SEGV $$");
  expect_error(ErrorCode::kPythonStepDied, {"signal 11"}, [] { read_python_step("score.py", {}); });
  stand_in("exit 1");
  expect_error(ErrorCode::kPythonStepDied, {"exit code 1"},
               [] { run_python_step("score.py", {}); });
}

TEST_F(PythonStep, PrintedJsonIsCheckedAndJobsAreText) {
  EXPECT_EQ(printed_json({0, "{\"a\": 1}"}, "score.py")["a"], 1);
  expect_error(ErrorCode::kPythonStepDied, {"tools/score.py"}, [] {
    printed_json({0, "no"}, "score.py");
  });
  stand_in("exit 0");
  expect_error(ErrorCode::kBadValue, {"UTF-8"}, [] {
    run_python_step("score.py", {{"path", "caf\xe9"}});
  });
}

TEST_F(PythonStep, WhatIsMissingIsNamed) {
  ::setenv("SUTOR_PYTHON", "/nowhere/python", 1);
  expect_error(ErrorCode::kNoPythonStep, {"/nowhere/python"},
               [] { run_python_step("score.py", {}); });
  expect_error(ErrorCode::kNoPythonStep, {"tools/gone.py"}, [] { run_python_step("gone.py", {}); });
}

}  // namespace
}  // namespace sutor
