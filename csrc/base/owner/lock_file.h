// A file that one process at a time holds: by flock where the file system has locks, else by a
// lease (lease.h). It carries the record of its holder, so that a second one can say who that is.
// The file is removed when the lock is released; one that stays is that of a process that is gone.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "csrc/base/file.h"
#include "csrc/base/owner/lease.h"
#include "csrc/base/owner/process_owner.h"

namespace sutor {

// 0, or the errno of an exclusive flock() that does not wait.
int flock_at_once(int fd);

struct LockSettings {
  int (*try_lock)(int fd) = flock_at_once;
  // How long a holder that is not seen to run may take to be gone after a kill.
  std::chrono::milliseconds patience{2000};
  LeaseSettings lease;
};

class LockFile {
 public:
  // guarded: what it protects, for messages. The folder must exist. Throws E0401 naming the holder
  // when another process has it, E0220 when `path` is no plain file, E0502 when it cannot be made.
  LockFile(std::filesystem::path path, std::string guarded, const LockSettings& settings = {});
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  // The holder before, when it ended without releasing the lock.
  const std::optional<ProcessOwner>& taken_over() const { return taken_over_; }

 private:
  bool take(const LockSettings& settings);

  std::filesystem::path path_;
  std::string guarded_;
  FileDescriptor fd_;
  std::unique_ptr<Lease> lease_;
  std::optional<ProcessOwner> taken_over_;
};

}  // namespace sutor
