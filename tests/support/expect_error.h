// Code that must throw a sutor::Error.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "csrc/base/error.h"

namespace sutor::testing {

// Expects an Error of this code whose message holds all the words. Returns the message.
inline std::string expect_error(ErrorCode code, const std::vector<std::string>& words,
                                const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
          << "`" << word << "` is not in: " << error.what();
    }
    return error.what();
  }
  ADD_FAILURE() << "no error; expected " << fmt::format("{}", code);
  return "";
}

inline std::string expect_error(ErrorCode code, const std::function<void()>& action) {
  return expect_error(code, {}, action);
}

}  // namespace sutor::testing
