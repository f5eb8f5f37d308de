#include "launch/output/output_lock.h"

#include <fmt/format.h>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/log/run_contents.h"
#include "launch/output/replaced_training.h"

namespace sutor {
namespace {

// Of jobs that were killed while they tried out the folder.
void remove_probes(const std::filesystem::path& folder) {
  if (!is_folder(folder)) return;
  for (const std::filesystem::path& entry : entries_of(folder)) {
    std::error_code error;
    const bool probe = entry.filename().string().starts_with(RunPaths::kProbePrefix);
    if (probe && std::filesystem::is_directory(std::filesystem::symlink_status(entry, error))) {
      remove_tree(entry);
    }
  }
}

}  // namespace

FolderLock::FolderLock(const std::filesystem::path& folder) {
  if (is_there(folder) && !is_folder(folder)) {
    fail(ErrorCode::kOutputExists, "{} is no folder. Remove it, or name another output.",
         folder.string());
  }
  make_directory(folder);
  lock_ = std::make_unique<LockFile>(RunPaths(folder).lock(), folder.string());
  if (!lock_->taken_over()) return;
  fmt::print(stderr, "warning[{}]: the lock of {} was taken over from a job that is gone: {}\n",
             WarningCode::kLockTakenOver, folder.string(), lock_->taken_over()->text());
}

OutputLock::OutputLock(const std::filesystem::path& output) : lock_(output) {
  const RunPaths paths(output);
  require_plain_contents(paths);
  for (const auto& folder : {paths.output, paths.tokens_folder(), paths.checkpoints(),
                             paths.evaluation(), paths.evaluation() / "base",
                             paths.evaluation() / "trained", paths.evaluation() / "training"}) {
    remove_temporaries(folder);
  }
  for (const auto& folder : {paths.output, paths.checkpoints()}) remove_probes(folder);
  settle_replaced_training(paths);
}

}  // namespace sutor
