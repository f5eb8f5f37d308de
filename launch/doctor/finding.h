// What one check of `sutor doctor` found, and checks that may not end.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace sutor {

// kNote: works, by a fallback or less well. kFailed: a training would fail, or be another one.
enum class Grade { kOk, kNote, kFailed };
const char* name_of(Grade grade);  // "ok", "note", "FAILED"

struct Finding {
  std::string check;  // "shared folder"
  Grade grade = Grade::kOk;
  std::string text;
  std::string remedy;  // empty where nothing is to be done
};
using Findings = std::vector<Finding>;

// Runs a check, on a thread of its own, that may take so many seconds: a file system or a program
// that hangs is a failed finding, and what was begun is left behind. An error that the check throws
// is one, too, with `remedy` beside it.
Findings within(double seconds, const std::string& check, const std::string& remedy,
                const std::function<Findings()>& body);

// The same on this thread, without a limit: for what the watchdog of communication limits.
Findings caught(const std::string& check, const std::string& remedy,
                const std::function<Findings()>& body);

// Ends the processes that checks started and left behind.
void end_children();

}  // namespace sutor
