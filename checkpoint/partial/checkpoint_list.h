// The checkpoints of a folder: which are complete, which one to resume from, which ones to delete.
// Only one process at a time may change a folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/partial/checkpoint_check.h"
#include "csrc/base/error_codes.h"

namespace sutor {

struct CheckpointEntry {
  int64_t step = 0;
  std::filesystem::path path;
};

// The checkpoints whose manifest is valid and whose files have the recorded sizes, by rising step;
// none for an absent folder. Staging and trash directories, symbolic links and other names are not
// checkpoints.
std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& root);

// Whether the error of a reader says that a checkpoint is damaged or no checkpoint, so that an
// older one may take its place. Others say nothing about it: it may be whole when the disk answers
// again (E0301), or for the program that wrote it (E0343).
bool is_damage(ErrorCode code);

struct NewestCheckpoint {
  std::optional<CheckpointEntry> entry;  // none: the folder has no step directory at all
  nlohmann::json state;                  // CheckpointMeta::state of `entry`
  std::vector<std::string> passed_over;  // the errors of newer ones
};

// Checkpoints whose damage was found in their data, which only reading them shows: by step, with
// the error.
using DamagedSteps = std::map<int64_t, std::string>;

// The newest checkpoint that check_checkpoint() finds valid at this depth and that is not in
// `damaged`; skips damaged ones and reports their errors. With `strict` it throws the error of the
// newest one instead.
// Throws E0349 when there are step directories but none is good: starting from scratch beside them
// would hide a loss; and the error of one that cannot be read now (is_damage), since it may be the
// newest good one.
NewestCheckpoint newest_valid_checkpoint(const std::filesystem::path& root, bool strict = false,
                                         const DamagedSteps& damaged = {},
                                         CheckDepth depth = CheckDepth::kData);

// Every directory that is named like a step, complete or not. Throws E0301 when the folder cannot
// be listed.
std::vector<CheckpointEntry> step_directories(const std::filesystem::path& root);

// Throws E0220 when the folder holds files of another program (hidden ones do not count): it is not
// for us to begin a training there.
void refuse_foreign_files(const std::filesystem::path& root);

// Renames to .trash-*, then deletes; a crash leaves the trash for remove_leftovers(). Refuses a
// symbolic link and anything but a step directory (E0341).
void remove_checkpoint(const std::filesystem::path& directory);

// Deletes what an interrupted remove_checkpoint() or write_pointer() left, and staging directories
// that have no owner or one that is gone (process_owner.h). Returns the names of removed folders.
std::vector<std::string> remove_leftovers(const std::filesystem::path& root);

// Deletes all complete checkpoints that are older than the `keep` newest valid ones
// (is_valid_checkpoint), but those that LATEST and BEST name and the steps in `protect`. Ignores
// those whose manifest or sizes are wrong. Returns the removed steps.
std::vector<int64_t> apply_retention(const std::filesystem::path& root, int keep,
                                     const std::set<int64_t>& protect = {});

// LATEST and BEST contain the name of a step directory. They are hints: read_pointer() returns
// nothing when the file or the directory is missing or the name is not that of a step directory.
void write_pointer(const std::filesystem::path& root, std::string_view pointer, int64_t step);
void remove_pointer(const std::filesystem::path& root, std::string_view pointer);
std::optional<CheckpointEntry> read_pointer(const std::filesystem::path& root,
                                            std::string_view pointer);

}  // namespace sutor
