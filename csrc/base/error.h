// The one exception type of sutor. Its codes are those of error_codes.h.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "csrc/base/error_codes.h"

namespace sutor {

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }
  int exit_code() const { return exit_code_of(code_); }
  // "error[E0201]: message"; a message that starts with "file:line:col: " keeps that in front.
  std::string report() const;

 private:
  ErrorCode code_;
};

}  // namespace sutor

// "E0201", "W0103".
template <>
struct fmt::formatter<sutor::ErrorCode> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  auto format(sutor::ErrorCode code, format_context& context) const {
    return fmt::format_to(context.out(), "E{:04}", sutor::number_of(code));
  }
};
template <>
struct fmt::formatter<sutor::WarningCode> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  auto format(sutor::WarningCode code, format_context& context) const {
    return fmt::format_to(context.out(), "W{:04}", sutor::number_of(code));
  }
};

namespace sutor {

// Throws Error(code, formatted message). Say what was expected, what was found, where, how to
// repair it.
template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

[[noreturn]] void internal_error(const char* file, int line, const char* condition);

}  // namespace sutor

// For our own invariants only; user input never trips it. Exit 70.
#define SUTOR_ASSERT(condition) \
  ((condition) ? void(0) : ::sutor::internal_error(__FILE__, __LINE__, #condition))
