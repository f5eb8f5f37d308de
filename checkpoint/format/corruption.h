// Corruption that a check of files found: where, what was expected, what was found, and how to
// repair it.
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
  ErrorCode code = ErrorCode::kCorrupted;  // that of the error of a reader that finds it
  std::string file;                        // its path
  std::string location{};  // "tensor `x`, tile at byte 0"; empty: the file as a whole
  std::string expected{};  // empty, like `found`, when `problem` is the whole message
  std::string found{};
  std::string problem{};  // a reader's message, which names the file
  std::string repair{};   // a sentence

  // One line without the code: "<file>: <location>: expected ..., found .... <repair>"
  std::string text() const;
};

// Collects corruption from several threads.
class CorruptionList {
 public:
  // `repair`: the default for entries without one.
  explicit CorruptionList(std::string repair) : repair_(std::move(repair)) {}

  void add(Corruption corruption);
  bool empty() const;
  // Runs a check and adds an Error that it throws as corruption of `file`. Returns whether it threw
  // none.
  bool check(const std::filesystem::path& file, const std::function<void()>& body);
  // All entries, by file and location.
  std::vector<Corruption> take();

 private:
  std::string repair_;
  mutable std::mutex mutex_;
  std::vector<Corruption> found_;
};

}  // namespace sutor
