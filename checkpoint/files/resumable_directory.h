// A directory that one job at a time writes, over several starts if it is killed, and that appears
// under its final name complete or not at all. Work in progress is beside the final path:
//   .staging-<name>.lock       held by the job that writes it (csrc/base/owner/lock_file.h)
//   .staging-<name>.convert/   mode 0700
//     PLAN                     what determines the content; with another one a start begins anew
//     parts/                   files being written
//     content/                 complete files under their final names
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "csrc/base/owner/lock_file.h"

namespace sutor {

// The same on every rank that knows the final path.
struct StagingPaths {
  explicit StagingPaths(const std::filesystem::path& final_path);

  std::filesystem::path root, content, parts, lock;

  // A new name below parts/.
  std::filesystem::path new_part() const;
  // Moves a part that is complete and on the disk to `name` below content/, and makes the folders
  // for it. Replaces what an earlier start left there.
  void move_to_content(const std::filesystem::path& part, const std::filesystem::path& name) const;
};

class ResumableDirectory {
 public:
  enum class State {
    kFresh,      // nothing is there yet
    kResumed,    // files of an earlier start with the same plan may be there
    kPublished,  // an earlier start had done everything but report it
  };

  // For one process of the job. Makes missing parents. Throws E0401 when another job is writing the
  // same directory, E0220 when `final_path` exists and `overwrite` is false, or is not a directory.
  ResumableDirectory(const std::filesystem::path& final_path, const std::string& plan,
                     bool overwrite);

  State state() const { return state_; }
  const StagingPaths& paths() const { return paths_; }
  // When every file is in content/: fsyncs the folders, gives the directory its final name, and
  // fsyncs the parent. Throws E0220 when somebody else made the final name meanwhile.
  void publish();

 private:
  void lock();
  void determine_state(const std::string& plan);
  void clear();

  std::filesystem::path final_;
  StagingPaths paths_;
  bool overwrite_;
  unsigned mode_;
  State state_ = State::kFresh;
  std::unique_ptr<LockFile> lock_;
};

}  // namespace sutor
