// What commonly causes each error and warning, and what to do: the texts of `sutor help CODE` and
// of docs/errors.md, one file a group of exit codes. Every code of csrc/base/error_codes.h has one,
// which tests/error_codes_test.py and tests/unit/launch/cli/code_help_test.cc demand.
#pragma once

#include <span>
#include <string_view>

#include "csrc/base/error_codes.h"

namespace sutor {

// Sentences in plain English, on one line; `...` marks what is typed.
struct ErrorText {
  ErrorCode code;
  std::string_view cause, remedy;
};
struct WarningText {
  WarningCode code;
  std::string_view cause, remedy;
};

std::span<const ErrorText> check_and_usage_texts();  // exit codes 1 and 2
std::span<const ErrorText> data_texts();             // exit code 3
std::span<const ErrorText> running_texts();          // exit codes 4 to 75
std::span<const WarningText> warning_texts();

}  // namespace sutor
