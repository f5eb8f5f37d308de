// Runs code that must throw a sutor::Error with a given code, and returns its message.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "csrc/base/error.h"

namespace sutor::testing {

template <typename Function>
std::string message_of(Function&& function, ErrorCode code) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

}  // namespace sutor::testing
