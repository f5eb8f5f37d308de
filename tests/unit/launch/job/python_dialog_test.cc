// A script that stays and answers. Shells stand in for Python.
#include "launch/job/python_dialog.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::expect_error;

class PythonDialogTest : public ::testing::Test {
 protected:
  void TearDown() override { ::unsetenv("SUTOR_PYTHON"); }

  void stand_in(const std::string& script) {
    const std::filesystem::path path = folder_.write("python", "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    ::setenv("SUTOR_PYTHON", path.c_str(), 1);
  }

  testing::TempDir folder_;
};

TEST_F(PythonDialogTest, EachLineIsAnsweredWithALine) {
  stand_in("echo '{\"ready\": true}'; while read -r line; do echo \"[$line, 1]\"; done");
  PythonDialog dialog("score.py", {});
  EXPECT_EQ(dialog.read(), (nlohmann::json{{"ready", true}}));
  const std::string text(200'000, 'x');
  for (const nlohmann::json& value : {nlohmann::json(3), nlohmann::json(text)}) {
    EXPECT_EQ(dialog.ask(value), nlohmann::json::array({value, 1}));
  }
}

TEST_F(PythonDialogTest, ItEndsWithTheDialog) {
  const std::filesystem::path mark = folder_.path() / "ended";
  stand_in("while read -r line; do echo 1; done; touch " + mark.string());
  { PythonDialog("score.py", {}).ask(1); }
  EXPECT_TRUE(std::filesystem::exists(mark));
}

TEST_F(PythonDialogTest, AScriptThatEndsInsteadEndsTheJobWithItsCode) {
  for (const auto& [script, code] : {std::pair{"exit 3", ErrorCode::kPythonStepData},
                                     {"exit 2", ErrorCode::kPythonStepUsage},
                                     {"exit 0", ErrorCode::kPythonStepDied},
                                     {"kill -KILL $$", ErrorCode::kPythonStepDied},
                                     {"echo no json; read -r line", ErrorCode::kPythonStepDied}}) {
    stand_in(script);
    expect_error(code, [] {
      PythonDialog dialog("score.py", {});
      dialog.ask(std::string(100'000, 'x'));
    });
  }
}

}  // namespace
}  // namespace sutor
