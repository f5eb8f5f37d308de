// The checkpoints of a folder: which are complete, which one to resume from, which ones to delete.
// One process at a time may change a folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace sutor {

struct CheckpointEntry {
  int64_t step = 0;
  std::filesystem::path path;
};

// The ones whose manifest is valid and whose files have the recorded sizes, by rising step. An
// absent folder has none. Staging and trash directories, symbolic links and odd names are no
// checkpoints.
std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& root);

struct NewestCheckpoint {
  std::optional<CheckpointEntry> entry;  // none: the folder holds no step directory at all
  std::vector<std::string> passed_over;  // newer ones and what is wrong with each
};

// The newest checkpoint that opens (CheckpointReader), passing over bad ones with their reasons.
// `strict`: the newest must be good, else its error is thrown. Throws E0349 when there are step
// directories but none is good: starting from scratch beside them would hide a loss.
NewestCheckpoint newest_valid_checkpoint(const std::filesystem::path& root, bool strict = false);

// Renames to .trash-*, then deletes; a crash leaves the trash, which remove_leftovers() takes away.
// Refuses a symbolic link and anything but a step directory (E0341).
void remove_checkpoint(const std::filesystem::path& directory);

// Deletes what an interrupted remove_checkpoint() left, and staging directories whose owner on this
// host is dead, or that are older than a day. Returns the names removed.
std::vector<std::string> remove_leftovers(const std::filesystem::path& root);

// Deletes all complete checkpoints but the `keep` newest, the ones that LATEST and BEST name, and
// `protect` (steps). Incomplete ones neither count nor are touched. Returns the steps removed.
std::vector<int64_t> apply_retention(const std::filesystem::path& root, int keep,
                                     const std::set<int64_t>& protect = {});

// LATEST and BEST hold the name of a step directory. They are hints: read_pointer() gives nothing
// when the file or the directory is missing or the name is none of ours.
void write_pointer(const std::filesystem::path& root, std::string_view pointer, int64_t step);
std::optional<CheckpointEntry> read_pointer(const std::filesystem::path& root,
                                            std::string_view pointer);

}  // namespace sutor
