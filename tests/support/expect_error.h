// Expects a sutor::Error with a code and, where given, words that its message must hold.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "csrc/base/error.h"

namespace sutor::testing {

inline void expect_error(ErrorCode code, const std::vector<std::string>& words,
                         const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
          << "`" << word << "` is not in: " << error.what();
    }
    return;
  }
  ADD_FAILURE() << "no error; expected " << fmt::format("{}", code);
}

}  // namespace sutor::testing
