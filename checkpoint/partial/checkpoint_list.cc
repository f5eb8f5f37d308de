#include "checkpoint/partial/checkpoint_list.h"

#include <algorithm>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/partial/checkpoint_check.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/owner/process_owner.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMaxPointerBytes = 256;

// Names in a folder; none when it does not exist. Throws E0301 when it cannot be listed.
std::vector<std::string> names_in(const fs::path& root) {
  std::vector<std::string> names;
  std::error_code error;
  if (!fs::exists(root, error) && !error) return names;
  if (!error) {
    fs::directory_iterator at(root, error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
      names.push_back(at->path().filename().string());
    }
  }
  if (error) fail(ErrorCode::kUnreadableFile, "cannot list {}: {}", root.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

// Throws E0301 when that cannot be said.
bool is_real_directory(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (error && status.type() != fs::file_type::not_found) {
    fail(ErrorCode::kUnreadableFile, "cannot look up {}: {}", path.string(), error.message());
  }
  return fs::is_directory(status);
}

void check_step(const Manifest& manifest, const CheckpointEntry& entry) {
  if (manifest.meta.step == entry.step) return;
  fail(ErrorCode::kBadManifest, "{} contains a checkpoint of step {}", entry.path.string(),
       manifest.meta.step);
}

[[noreturn]] void fail_unreadable(const Error& error, const CheckpointEntry& entry) {
  throw Error(error.code(),
              fmt::format("{}. {} is not passed over, since it may be whole: start again when it "
                          "can be read, or move it away to go on from an older one.",
                          error.what(), entry.path.string()));
}

}  // namespace

bool is_damage(ErrorCode code) {
  switch (code) {
    case ErrorCode::kBrokenFile:
    case ErrorCode::kBadHdf5:
    case ErrorCode::kBadDigest:
    case ErrorCode::kIncomplete:
    case ErrorCode::kBadManifest:
    case ErrorCode::kWrongFileSize:
    case ErrorCode::kBadTileIndex:
    case ErrorCode::kBadCoverage:
    case ErrorCode::kCorrupted:
      return true;
    default:
      return false;
  }
}

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

void refuse_foreign_files(const fs::path& root) {
  for (const std::string& name : names_in(root)) {
    if (name.starts_with('.') || name == kLatestPointer || name == kBestPointer) continue;
    if (parse_step_directory(name) && is_real_directory(root / name)) continue;
    fail(ErrorCode::kOutputExists,
         "{} holds files of something else ({}): nothing there is touched. Set another output, or "
         "move them away.",
         root.string(), name);
  }
}

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

NewestCheckpoint newest_valid_checkpoint(const fs::path& root, bool strict,
                                         const DamagedSteps& damaged, CheckDepth depth) {
  NewestCheckpoint newest;
  std::vector<CheckpointEntry> entries = step_directories(root);
  std::reverse(entries.begin(), entries.end());
  for (const CheckpointEntry& entry : entries) {
    if (const auto found = damaged.find(entry.step); found != damaged.end()) {
      newest.passed_over.push_back(found->second);
      continue;
    }
    try {
      check_checkpoint(entry.path, depth);
      if (depth == CheckDepth::kData) note_valid_checkpoint(entry.path);
      newest.state = CheckpointReader(entry.path).meta().state;
    } catch (const Error& error) {
      if (strict) throw;
      if (!is_damage(error.code())) fail_unreadable(error, entry);
      newest.passed_over.push_back(error.what());
      continue;
    }
    newest.entry = entry;
    return newest;
  }
  if (!entries.empty()) {
    fail(ErrorCode::kNoCheckpoint,
         "{} has {} checkpoints and none of them is whole. Nothing was changed. `sutor verify` "
         "says of each what is wrong; --overwrite begins anew, and so does another output.\n  {}",
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
  remove_temporaries(root);
  std::vector<std::string> removed;
  for (const std::string& name : names_in(root)) {
    const fs::path path = root / name;
    // Without an owner, or half of one, it is one that was about to be published, or had just been
    // made: of a job that is gone, since one job at a time is in the folder.
    const bool unowned = name.starts_with(kStagingPrefix) && !has_owner(path);
    const bool staging = name.starts_with(kStagingPrefix) && owner_is_gone(path);
    if (!name.starts_with(kTrashPrefix) && !unowned && !staging) continue;
    if (!is_real_directory(path)) continue;
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

void remove_pointer(const fs::path& root, std::string_view pointer) {
  std::error_code error;
  if (fs::remove(root / pointer, error)) fsync_directory(root);
  if (error) fail_write(root / pointer, "remove", error.value());
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
