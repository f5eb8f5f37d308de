#include "checkpoint/huggingface/hf_directory.h"

#include <algorithm>

#include "checkpoint/format/foreign_files.h"
#include "checkpoint/huggingface/hf_index.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/parallel.h"
#include "csrc/base/process/progress.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

std::string read_config(const fs::path& path) {
  if (!is_there(path / "config.json")) {
    const std::string what = foreign_model_text(path);
    if (!is_there(path)) {
      std::error_code error;
      fail(ErrorCode::kNoModel,
           "{} does not exist (sutor was started in {}, to which paths are relative){}",
           path.string(), fs::current_path(error).string(), what.empty() ? "" : ": " + what);
    }
    fail(ErrorCode::kNoModel, "{} {}{}{}", path.string(),
         is_folder(path) ? "is not a model directory (no config.json): " : "is not a directory",
         is_folder(path) || what.empty() ? "" : ": ",
         !what.empty() || !is_folder(path) ? what : "nor is it a base store");
  }
  return read_file(path / "config.json", kMaxConfigFileBytes);
}

}  // namespace

HfDirectory::HfDirectory(const fs::path& path) : ModelDirectory(path) {
  set_config(read_config(path), (path / "config.json").string());
  if (is_there(path / kSingleWeightsFile)) {
    open_shard(kSingleWeightsFile);
  } else if (is_there(path / kIndexFile)) {
    open_sharded();
  } else {
    const std::string what = foreign_model_text(path);
    fail(ErrorCode::kUnreadableFile, "{} has neither {} nor {}{}", path.string(),
         kSingleWeightsFile, kIndexFile, what.empty() ? "" : ": " + what);
  }
}

void HfDirectory::open_shard(const std::string& file_name) {
  const fs::path file = path() / file_name;
  if (!is_there(file)) {
    fail(ErrorCode::kContradictoryShards,
         "{}: the shard {} that the index names is missing. Fetch the model again.",
         path().string(), file_name);
  }
  add_shard(std::make_unique<SafetensorsShard>(file));
}

void HfDirectory::open_sharded() {
  const HfIndex index = read_hf_index(path() / kIndexFile);
  std::set<std::string> files;
  for (const auto& [name, file] : index.weight_map) files.insert(file);
  for (const std::string& file : files) open_shard(file);
  for (const auto& [name, file] : index.weight_map) {
    const auto found = find(name);
    if (!found || found->file->name() != file) {
      fail(ErrorCode::kContradictoryShards,
           "{}: the index says that {} has tensor `{}`, but it does not{}", path().string(), file,
           name, found ? fmt::format(" ({} does)", found->file->name()) : "");
    }
  }
  int64_t total = 0;
  for (const auto& [name, stored] : tensors()) {
    if (!index.weight_map.count(name)) {
      fail(ErrorCode::kContradictoryShards, "{}: {} has tensor `{}`, which the index does not list",
           path().string(), stored.file->name(), name);
    }
    total += stored.entry->num_bytes();
  }
  if (!index.total_size.empty() && index.total_size != std::to_string(total)) {
    index_warning_ = fmt::format(
        "{}: total_size of {} is {}, but the tensors have {} bytes together. Nothing "
        "depends on it.",
        path().string(), kIndexFile, index.total_size, total);
  }
}

std::set<fs::path> HfDirectory::other_files() const {
  std::set<fs::path> files = files_below(path());
  for (const auto& shard : shards()) files.erase(shard->name());
  return files;
}

const std::map<std::string, Digest>& HfDirectory::tensor_digests(int threads) const {
  const std::lock_guard lock(digests_->mutex);
  if (digests_->filled) return digests_->tensors;
  std::vector<std::pair<const StoredTensor*, Digest*>> work;
  for (const auto& [name, stored] : tensors()) {
    work.emplace_back(&stored, &digests_->tensors[name]);
  }
  // In the order of the bytes on the disk.
  std::sort(work.begin(), work.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->shard, a.first->entry->begin) <
           std::pair(b.first->shard, b.first->entry->begin);
  });
  const Progress progress =
      Progress::of_reading(fmt::format("hashing {}", path().string()), total_bytes());
  parallel_tasks(threads, static_cast<int64_t>(work.size()), [&](int64_t i) {
    const StoredTensor& stored = *work[i].first;
    *work[i].second = stored.file->digest(stored.entry->begin, stored.entry->end);
  });
  digests_->filled = true;
  return digests_->tensors;
}

std::set<fs::path> files_below(const fs::path& directory) {
  std::set<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator at(directory, error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    std::error_code gone;  // of a file that went meanwhile
    const std::string name = at->path().filename().string();
    const bool passed = name == ".git" || name == ".cache";
    if (passed && at->is_directory(gone)) at.disable_recursion_pending();
    if (at->is_regular_file(gone)) files.insert(at->path().lexically_relative(directory));
  }
  if (error) {
    fail(ErrorCode::kUnreadableFile, "cannot list {}: {}", directory.string(), error.message());
  }
  return files;
}

}  // namespace sutor
