#include "csrc/base/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <map>
#include <string_view>

namespace sutor {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Counters {
  bool enabled = false;
  Clock::time_point begin;
  std::map<std::string_view, ProfileLine> lines;
  ProfileScope* innermost = nullptr;
  const char* failed_in = nullptr;
};

// One a thread; only the thread that enabled it counts.
Counters& counters() {
  thread_local Counters counters;
  return counters;
}

}  // namespace

void enable_profile() {
  counters().enabled = true;
  reset_profile();
}

void reset_profile() {
  counters().lines.clear();
  counters().begin = Clock::now();
}

std::vector<ProfileLine> profile_lines() {
  std::vector<ProfileLine> lines;
  for (const auto& [name, line] : counters().lines) lines.push_back(line);
  std::stable_sort(lines.begin(), lines.end(), [](const ProfileLine& a, const ProfileLine& b) {
    return a.seconds > b.seconds;
  });
  return lines;
}

std::string profile_table() {
  const double total = seconds_since(counters().begin);
  double covered = 0;
  std::string table = fmt::format("{:<28} {:>9} {:>10} {:>7}\n", "where the time went", "calls",
                                  "seconds", "share");
  const auto row = [&](std::string_view name, const std::string& calls, double seconds) {
    table += fmt::format("  {:<26} {:>9} {:>10.3f} {:>6.1f}%\n", name, calls, seconds,
                         total > 0 ? 100 * seconds / total : 0);
  };
  for (const ProfileLine& line : profile_lines()) {
    row(line.name, std::to_string(line.calls), line.seconds);
    covered += line.seconds;
  }
  row("everything else", "", total - covered);
  row("together", "", total);
  return table;
}

const char* scope_of_failure() { return counters().failed_in; }

ProfileScope::ProfileScope(const char* name)
    : name_(name), counts_(counters().enabled), exceptions_(std::uncaught_exceptions()) {
  if (!counts_) return;
  begin_ = Clock::now();
  outer_ = counters().innermost;
  counters().innermost = this;
}

ProfileScope::~ProfileScope() {
  Counters& own = counters();
  const bool fails = std::uncaught_exceptions() > exceptions_;
  if (!fails) {
    own.failed_in = nullptr;  // an earlier exception was dealt with
  } else if (own.failed_in == nullptr) {
    own.failed_in = name_;
  }
  if (!counts_) return;
  const double seconds = seconds_since(begin_);
  own.innermost = outer_;
  if (outer_ != nullptr) outer_->nested_ += seconds;
  ProfileLine& line = own.lines[name_];
  line.name = name_;
  ++line.calls;
  line.seconds += seconds - nested_;
}

}  // namespace sutor
