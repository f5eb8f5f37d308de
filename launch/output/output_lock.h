// One job at a time writes in an output folder: the second one ends at once, and names the first.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "csrc/base/owner/lock_file.h"
#include "csrc/comm/comm.h"
#include "launch/job/agreement.h"
#include "launch/log/run_paths.h"

namespace sutor {

// A folder into which a verb writes something else than a run. Held until the object ends.
class FolderLock {
 public:
  // Makes the folder with its parents. Says on stderr when the lock was that of a job that is gone.
  // Throws E0401 when another job has it.
  explicit FolderLock(const std::filesystem::path& folder);

 private:
  std::unique_ptr<LockFile> lock_;
};

// The recipe's `output`, locked before anything else is read. Puts the leftovers of a job that was
// killed in order: temporary files, and a training that was being replaced.
class OutputLock {
 public:
  // One process of the job. Throws E0401, and E0220 when a link or the like stands in the place of
  // something that sutor writes there.
  explicit OutputLock(const std::filesystem::path& output);

 private:
  FolderLock lock_;
};

// Collective: rank 0 takes the lock, and holds what is returned until the verb ends.
inline std::optional<OutputLock> lock_output(Comm& world, const std::filesystem::path& output) {
  std::optional<OutputLock> lock;
  on_rank_0(world, "lock the output folder", [&] { lock.emplace(output); });
  return lock;
}

}  // namespace sutor
