#include "csrc/base/error.h"

#include <string_view>

namespace sutor {

namespace {

// A message may quote what a file holds; nobody reads more of it than this.
constexpr size_t kMaxReport = 4000;

// The length of "file:line:col: " at the start of a message; 0 when there is none.
size_t position_length(std::string_view text) {
  size_t at = text.find_first_of(": \t\r\n\v\f");
  if (at == 0 || at == std::string_view::npos) return 0;
  for (int number = 0; number < 2; ++number) {
    if (text[at] != ':') return 0;
    const size_t digits = at + 1;
    at = text.find_first_not_of("0123456789", digits);
    if (at == std::string_view::npos || at == digits) return 0;
  }
  return text.substr(at, 2) == ": " ? at + 2 : 0;
}

std::string shortened(std::string_view text) {
  if (text.size() <= kMaxReport) return std::string(text);
  size_t end = kMaxReport;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
    --end;  // whole characters
  return fmt::format("{} ... ({} more bytes)", text.substr(0, end), text.size() - end);
}

}  // namespace

std::string Error::report() const {
  const std::string text = shortened(what());
  const size_t position = position_length(text);
  return fmt::format("{}error[{}]: {}", text.substr(0, position), code_, text.substr(position));
}

void internal_error(const char* file, int line, const char* condition) {
  fail(ErrorCode::kBrokenInvariant,
       "internal error at {}:{}: `{}` does not hold. This is a bug in sutor.", file, line,
       condition);
}

}  // namespace sutor
