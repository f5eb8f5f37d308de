// Where the time goes: named scopes on one thread; the time of a nested scope counts only for that
// scope. Unless enabled, a scope costs a look at two counters. The verbs' --profile prints the
// table. Scopes also say where an exception came from.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace sutor {

struct ProfileLine {
  std::string name;
  int64_t calls = 0;
  double seconds = 0;  // without nested scopes
};

// Starts counting on the calling thread: scopes of other threads are ignored.
void enable_profile();
// Sets all counts to zero, for example after a warm-up.
void reset_profile();
// Most expensive first.
std::vector<ProfileLine> profile_lines();
// A table with percentages of the time since enabling or resetting, and a last line for the time
// that no scope covers.
std::string profile_table();

// The innermost scope of this thread that the last exception left; null: none.
const char* scope_of_failure();

class ProfileScope {
 public:
  // name: a literal.
  explicit ProfileScope(const char* name);
  ~ProfileScope();
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  const char* name_;
  bool counts_;
  int exceptions_;  // that were under way when the scope began
  std::chrono::steady_clock::time_point begin_;
  double nested_ = 0;
  ProfileScope* outer_ = nullptr;
};

}  // namespace sutor
