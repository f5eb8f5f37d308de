// `sutor help CODE`: every code has a cause and a remedy; what is no code, or none that exists.
#include "launch/cli/codes/code_help.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "csrc/base/error.h"
#include "launch/cli/codes/code_texts.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using testing::expect_error;

constexpr int kErrors[] = {
#define SUTOR_NUMBER(number, name, exit_code, text) number,
    SUTOR_ERRORS(SUTOR_NUMBER)
#undef SUTOR_NUMBER
};

constexpr int kWarnings[] = {
#define SUTOR_NUMBER(number, name, text) number,
    SUTOR_WARNINGS(SUTOR_NUMBER)
#undef SUTOR_NUMBER
};

void expect_whole(const std::string& code) {
  const std::optional<std::string> help = code_help(code);
  ASSERT_TRUE(help) << code;
  EXPECT_TRUE(help->starts_with(code + ": ")) << *help;
  EXPECT_NE(help->find("\ncauses:\n  "), std::string::npos) << *help;
  EXPECT_NE(help->find("\nwhat to do:\n  "), std::string::npos) << *help;
}

TEST(CodeHelp, EveryCodeHasItsCausesAndWhatToDo) {
  for (const int number : kErrors) expect_whole(fmt::format("E{:04}", number));
  for (const int number : kWarnings) expect_whole(fmt::format("W{:04}", number));
}

TEST(CodeHelp, ErrorsStandInTheFileOfTheirExitCode) {
  for (const ErrorText& text : check_and_usage_texts()) EXPECT_LE(exit_code_of(text.code), 2);
  for (const ErrorText& text : data_texts()) EXPECT_EQ(exit_code_of(text.code), kExitData);
  for (const ErrorText& text : running_texts()) EXPECT_GE(exit_code_of(text.code), kExitBusy);
}

TEST(CodeHelp, SmallLettersAndBareNumbersAreUnderstood) {
  const std::optional<std::string> help = code_help("E0201");
  ASSERT_TRUE(help);
  EXPECT_EQ(code_help("e0201"), help);
  EXPECT_EQ(code_help("201"), help);
  EXPECT_NE(help->find("\nexit code 2\n"), std::string::npos);
}

TEST(CodeHelp, WhatIsNoCodeHasNone) {
  for (const char* text : {"", "train", "E", "E02x1", "E020100", "-201"}) {
    EXPECT_FALSE(code_help(text)) << text;
  }
}

TEST(CodeHelp, ACodeThatDoesNotExistIsRefusedWithThoseNearIt) {
  expect_error(ErrorCode::kBadArgument, {"no code", "E0203, E0205"}, [] { code_help("204"); });
}

}  // namespace
}  // namespace sutor
