// Regular expressions that users or foreign files give for names of tensors.
#pragma once

#include <chrono>
#include <regex>
#include <string>

namespace sutor {

// ECMAScript's, as std::regex knows them, without references to groups. Whatever the pattern is,
// neither compiling nor matching takes memory or time without end: patterns have at most 16,384
// characters and 200 nested brackets, a match takes polynomial time, and all matches of one pattern
// have some seconds together.
class NamePattern {
 public:
  explicit NamePattern(const std::string& pattern);
  // Whether the pattern matches the whole of a name; names beyond 1,000 characters never match.
  bool matches(const std::string& name);
  // Why the pattern cannot be used, or could not be used to the end; "" when it can. A pattern with
  // a problem matches nothing.
  const std::string& problem() const { return problem_; }

 private:
  std::regex regex_;
  std::string problem_;
  std::chrono::steady_clock::duration spent_{};
};

}  // namespace sutor
