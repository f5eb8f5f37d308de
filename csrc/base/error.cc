#include "csrc/base/error.h"

#include <regex>

namespace sutor {

std::string Error::report() const {
  const std::string text = what();
  static const std::regex position("^([^:\\s]+:\\d+:\\d+: )");
  std::smatch match;
  if (std::regex_search(text, match, position)) {
    return fmt::format("{}error[{}]: {}", match[1].str(), code_, match.suffix().str());
  }
  return fmt::format("error[{}]: {}", code_, text);
}

void internal_error(const char* file, int line, const char* condition) {
  fail(ErrorCode::kBrokenInvariant,
       "internal error at {}:{}: `{}` does not hold. This is a bug in sutor.", file, line,
       condition);
}

}  // namespace sutor
