// What a check of files finds that is not as it was written: the place, what was expected and what
// was found there, and how to mend it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "csrc/base/error_codes.h"

namespace sutor {

struct Corruption {
  ErrorCode code = ErrorCode::kCorrupted;  // as the error of a reader that stumbles over it has
  std::string file;                        // its path
  std::string location{};  // "tensor `x`, tile at byte 0"; empty: the file as a whole
  std::string expected{};  // both are empty when `problem` says it all
  std::string found{};
  std::string problem{};  // a reader's message, which names the file
  std::string repair{};   // a sentence

  // One line without the code: "<file>: <part>: expected ..., found .... <mend>"
  std::string text() const;
};

// Collects damage from several threads.
class CorruptionList {
 public:
  // `repair`: of what is added without one.
  explicit CorruptionList(std::string repair) : repair_(std::move(repair)) {}

  void add(Corruption corruption);
  // Runs a check; what it throws as an Error is damage of `file`. Whether it threw nothing.
  bool check(const std::filesystem::path& file, const std::function<void()>& body);
  // By file and part.
  std::vector<Corruption> take();

 private:
  std::string repair_;
  std::mutex mutex_;
  std::vector<Corruption> found_;
};

}  // namespace sutor
