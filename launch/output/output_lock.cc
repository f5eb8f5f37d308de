#include "launch/output/output_lock.h"

#include <fmt/format.h>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/log/run_contents.h"
#include "launch/output/replaced_training.h"

namespace sutor {

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
  for (const auto& folder :
       {paths.output, paths.tokens_folder(), paths.checkpoints(), paths.evaluation(),
        paths.evaluation() / "base", paths.evaluation() / "trained"}) {
    remove_temporaries(folder);
  }
  settle_replaced_training(paths);
}

}  // namespace sutor
