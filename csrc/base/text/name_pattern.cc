#include "csrc/base/text/name_pattern.h"

#include <algorithm>

namespace sutor {
namespace {

// The compiler of std::regex recurses over a pattern, and its matcher over a name.
constexpr size_t kMaxPattern = 16384, kMaxName = 1000;
constexpr int kMaxBrackets = 200;
constexpr std::chrono::seconds kMaxTime(5);

int nested_brackets(const std::string& pattern) {
  int depth = 0, most = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') ++i;
    if (i < pattern.size() && pattern[i] == '(') most = std::max(most, ++depth);
    if (i < pattern.size() && pattern[i] == ')') --depth;
  }
  return most;
}

}  // namespace

NamePattern::NamePattern(const std::string& pattern) {
  if (pattern.size() > kMaxPattern) {
    problem_ = "it is longer than 16,384 characters";
  } else if (nested_brackets(pattern) > kMaxBrackets) {
    problem_ = "it has more than 200 nested brackets";
  } else {
    try {
      // Breadth first: without it, a pattern such as (x+x+)+y takes exponential time.
      regex_.assign(pattern, std::regex::ECMAScript | std::regex_constants::__polynomial);
    } catch (const std::regex_error& error) {
      problem_ = error.what();
    }
  }
}

bool NamePattern::matches(const std::string& name) {
  if (!problem_.empty() || name.size() > kMaxName) return false;
  const auto begin = std::chrono::steady_clock::now();
  const bool found = std::regex_match(name, regex_);
  spent_ += std::chrono::steady_clock::now() - begin;
  if (spent_ > kMaxTime) problem_ = "matching it takes too long";
  return found && problem_.empty();
}

}  // namespace sutor
