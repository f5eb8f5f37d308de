#include "checkpoint/partial/checkpoint_list.h"

#include <algorithm>

#include "checkpoint/files/staging_owner.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/partial/checkpoint_check.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMaxPointerBytes = 256;

// Names in a folder; none when it does not exist. Throws E0301 when it cannot be listed.
std::vector<std::string> names_in(const fs::path& root) {
  std::vector<std::string> names;
  std::error_code error;
  if (!fs::exists(root, error)) return names;
  fs::directory_iterator at(root, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  if (error) fail(ErrorCode::kUnreadableFile, "cannot list {}: {}", root.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

bool is_real_directory(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(fs::symlink_status(path, error));
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

// What a crash in write_pointer() leaves: ".LATEST.<random>.tmp".
bool is_pointer_remainder(const fs::path& path) {
  std::error_code error;
  const std::string name = path.filename().string();
  const bool pointer = name.starts_with(fmt::format(".{}.", kLatestPointer)) ||
                       name.starts_with(fmt::format(".{}.", kBestPointer));
  return pointer && name.ends_with(".tmp") && fs::is_regular_file(fs::symlink_status(path, error));
}

// Every directory named like a step, complete or not, by rising step.
std::vector<CheckpointEntry> step_directories(const fs::path& root) {
  std::vector<CheckpointEntry> entries;
  for (const std::string& name : names_in(root)) {
    const std::optional<int64_t> step = parse_step_directory(name);
    if (step && is_real_directory(root / name)) entries.push_back({*step, root / name});
  }
  std::sort(entries.begin(), entries.end(),
            [](const CheckpointEntry& a, const CheckpointEntry& b) { return a.step < b.step; });
  return entries;
}

void check_step(const Manifest& manifest, const CheckpointEntry& entry) {
  if (manifest.meta.step == entry.step) return;
  fail(ErrorCode::kBadManifest, "{} contains a checkpoint of step {}", entry.path.string(),
       manifest.meta.step);
}

}  // namespace

std::vector<CheckpointEntry> list_checkpoints(const fs::path& root) {
  std::vector<CheckpointEntry> complete;
  for (CheckpointEntry& entry : step_directories(root)) {
    try {
      check_step(read_manifest(entry.path), entry);
    } catch (const Error&) {
      continue;
    }
    complete.push_back(std::move(entry));
  }
  return complete;
}

NewestCheckpoint newest_valid_checkpoint(const fs::path& root, bool strict) {
  NewestCheckpoint newest;
  std::vector<CheckpointEntry> entries = step_directories(root);
  std::reverse(entries.begin(), entries.end());
  for (const CheckpointEntry& entry : entries) {
    try {
      check_checkpoint(entry.path, CheckDepth::kData);
      note_valid_checkpoint(entry.path);
    } catch (const Error& error) {
      if (strict) throw;
      newest.passed_over.push_back(error.what());
      continue;
    }
    newest.entry = entry;
    return newest;
  }
  if (!entries.empty()) {
    fail(ErrorCode::kNoCheckpoint,
         "{} has {} checkpoints and none can be read. Repair or remove them to start anew.\n  {}",
         root.string(), entries.size(), fmt::join(newest.passed_over, "\n  "));
  }
  return newest;
}

void remove_checkpoint(const fs::path& directory) {
  const std::optional<int64_t> step = parse_step_directory(directory.filename().string());
  if (!step || !is_real_directory(directory)) {
    fail(ErrorCode::kIncomplete, "{} is not a step directory, so it is not removed",
         directory.string());
  }
  const fs::path root = parent_of(directory);
  const fs::path trash = trash_directory(root, *step);
  rename_new(directory, trash);
  fsync_directory(root);
  remove_tree(trash);
}

std::vector<std::string> remove_leftovers(const fs::path& root) {
  std::vector<std::string> removed;
  for (const std::string& name : names_in(root)) {
    const fs::path path = root / name;
    const bool unowned = name.starts_with(kStagingPrefix) && !is_there(path / kOwnerFile);
    const bool staging = name.starts_with(kStagingPrefix) && owner_is_gone(path);
    const bool directory = name.starts_with(kTrashPrefix) || unowned || staging;
    if (!(directory && is_real_directory(path)) && !is_pointer_remainder(path)) continue;
    remove_tree(path);
    removed.push_back(name);
  }
  return removed;
}

std::vector<int64_t> apply_retention(const fs::path& root, int keep,
                                     const std::set<int64_t>& protect) {
  SUTOR_ASSERT(keep >= 1);
  std::set<int64_t> kept = protect;
  for (const std::string_view pointer : {kLatestPointer, kBestPointer}) {
    if (const auto entry = read_pointer(root, pointer)) kept.insert(entry->step);
  }
  std::vector<CheckpointEntry> entries = list_checkpoints(root);
  std::reverse(entries.begin(), entries.end());
  std::vector<int64_t> removed;
  int valid = 0;
  for (const CheckpointEntry& entry : entries) {
    if (valid < keep) {
      if (is_valid_checkpoint(entry.path)) ++valid;
      continue;
    }
    if (kept.contains(entry.step)) continue;
    remove_checkpoint(entry.path);
    removed.push_back(entry.step);
  }
  std::reverse(removed.begin(), removed.end());
  return removed;
}

void write_pointer(const fs::path& root, std::string_view pointer, int64_t step) {
  write_file_atomic(root / pointer, step_directory(step) + "\n");
}

std::optional<CheckpointEntry> read_pointer(const fs::path& root, std::string_view pointer) {
  std::error_code error;
  if (!fs::is_regular_file(fs::symlink_status(root / pointer, error))) return {};
  if (fs::file_size(root / pointer, error) > kMaxPointerBytes) return {};
  std::string name = read_file(root / pointer, kMaxPointerBytes);
  if (name.ends_with('\n')) name.pop_back();
  const std::optional<int64_t> step = parse_step_directory(name);
  if (!step || !is_real_directory(root / name)) return {};
  return CheckpointEntry{*step, root / name};
}

}  // namespace sutor
