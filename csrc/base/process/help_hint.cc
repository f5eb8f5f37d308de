#include "csrc/base/process/help_hint.h"

#include <unistd.h>

#include <cctype>
#include <cstdio>

namespace sutor {

std::string error_named_in(const std::string& message) {
  const std::string line = message.substr(0, message.find('\n'));
  const size_t start = line.find("error[");
  if (start == std::string::npos) return "";
  const std::string code = line.substr(start + 6, 5);
  const bool whole = code.size() == 5 && code[0] == 'E' && line.substr(start + 11, 1) == "]";
  for (size_t i = 1; i < code.size(); ++i) {
    if (!std::isdigit(static_cast<unsigned char>(code[i]))) return "";
  }
  return whole ? code : "";
}

void print_help_hint(const std::string& message) {
  if (::isatty(STDERR_FILENO) == 0) return;
  const std::string code = error_named_in(message);
  const bool stopped = code.substr(0, 3) == "E75";  // which says what to do, and is no fault
  if (code.empty() || stopped) return;
  std::fprintf(stderr, "(`sutor help %s`: causes, and what to do)\n", code.c_str());
}

}  // namespace sutor
