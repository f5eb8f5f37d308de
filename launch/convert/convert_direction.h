// The two directions of a conversion, as lists of files that any rank can write.
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

// One file to be written, or compared, by one rank.
struct Item {
  int64_t bytes = 0;
  bool kept = false;  // an earlier start completed it
  std::function<void()> run;
  // What has to follow and needs no processor: the wait for the disk. On another thread, while the
  // next item runs.
  std::function<void()> finish{};
};

class Direction {
 public:
  virtual ~Direction() = default;
  virtual const ModelDirectory& source() const = 0;
  virtual std::string fingerprint() const = 0;
  virtual int64_t total_bytes() const = 0;
  virtual std::vector<Item> items(const StagingPaths& staging) = 0;
  // Collective, after all items: what is left to write.
  virtual void conclude(const StagingPaths& staging, Comm& world) {}
  virtual std::unique_ptr<ModelDirectory> result(const std::filesystem::path& path) const = 0;
  virtual std::string describe() const = 0;  // "base store, 8 data files"
};

// By what lies at `from`: a base store becomes a directory, a directory becomes a base store.
std::unique_ptr<Direction> make_direction(const std::filesystem::path& from, int64_t max_file_bytes,
                                          const nlohmann::json& provenance);

}  // namespace sutor
