// The two directions of a conversion, each as a list of files that any rank can write.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/files/resumable_directory.h"
#include "checkpoint/huggingface/model_directory.h"
#include "csrc/comm/comm.h"

namespace sutor {

// A file that one rank writes, or compares.
struct Item {
  int64_t bytes = 0;
  bool kept = false;  // an earlier start completed it
  std::function<void()> run;
  // Waits for the disk. Called on another thread, while the next item runs.
  std::function<void()> finish{};
};

class Direction {
 public:
  virtual ~Direction() = default;
  virtual const ModelDirectory& source() const = 0;
  virtual std::string fingerprint() const = 0;
  virtual int64_t total_bytes() const = 0;
  virtual std::vector<Item> items(const StagingPaths& staging) = 0;
  // Collective, after all items: writes what is left.
  virtual void conclude(const StagingPaths& staging, Comm& world) {}
  virtual std::unique_ptr<ModelDirectory> result(const std::filesystem::path& path) const = 0;
  virtual std::string describe() const = 0;  // "base store, 8 data files"
};

// Decided by `from`: a base store becomes a directory, a directory becomes a base store.
std::unique_ptr<Direction> make_direction(const std::filesystem::path& from, int64_t max_file_bytes,
                                          const nlohmann::json& provenance);

}  // namespace sutor
