#include "launch/output/replaced_training.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "checkpoint/partial/checkpoint_list.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/text.h"
#include "launch/log/plan_file.h"
#include "launch/log/run_contents.h"
#include "launch/log/run_record.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

// In the order of moving aside: with `checkpoints` there, those in the run directory are the new
// training's, at any moment. They go back in the opposite order, for the same reason.
std::vector<fs::path> parts_of(const RunPaths& paths) {
  return {paths.checkpoints(),     paths.metrics(),   paths.evaluations(),
          paths.tensorboard(),     paths.wandb_run(), run_record_path(paths),
          paths.resolved_recipe(), paths.fork(),      plan_file(paths.output),
          paths.diverged_batch()};
}

void move(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_write(to, "rename to", errno);
}

bool has_nothing(const fs::path& folder) {
  std::error_code error;
  return fs::directory_iterator(folder, error) == fs::directory_iterator();
}

void put_back(const RunPaths& paths, const fs::path& aside) {
  require_own_training(paths);
  const std::vector<fs::path> parts = parts_of(paths);
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    const fs::path old = aside / part->filename();
    if (!is_name_taken(old)) continue;
    remove_tree(*part);  // of the training that did not come to a checkpoint
    move(old, *part);
  }
  fsync_directory(paths.output);
  remove_tree(aside);
}

void delete_aside(const fs::path& aside) {
  try {
    remove_tree(aside);
    fmt::print(stderr, "the training that was replaced is deleted: the new one has a checkpoint\n");
  } catch (const Error& error) {
    fmt::print(stderr, "warning[{}]: the training that was replaced is not wholly deleted: {}\n",
               WarningCode::kCleanUpFailed, error.what());
  }
}

}  // namespace

ReplacedTraining::ReplacedTraining(const RunPaths& paths) : paths_(paths) {
  require_own_training(paths_);
  std::vector<fs::path> found;
  for (const fs::path& part : parts_of(paths_)) {
    if (is_name_taken(part)) found.push_back(part);
  }
  // No training, but what it leaves beside its checkpoints and logs.
  const std::vector<fs::path> of_trainings = {paths_.checkpoints(), paths_.metrics(),
                                              paths_.evaluations(), paths_.tensorboard()};
  if (found.empty() || std::ranges::find(of_trainings, found.front()) == of_trainings.end()) return;
  const fs::path aside =
      paths_.output / fmt::format("{}{}", RunPaths::kReplacedPrefix, random_hex());
  if (::mkdir(aside.c_str(), 0700) != 0) fail_write(aside, "make directory", errno);
  try {
    for (const fs::path& part : found) {
      move(part, aside / part.filename());
      fsync_directory(paths_.output);  // a power cut keeps the order
    }
    fsync_directory(aside);
  } catch (const Error&) {
    put_back(paths_, aside);
    throw;
  }
  aside_ = aside;
  if (found.front() != paths_.checkpoints()) return;  // logs alone: nothing could go on from them
  fmt::print(
      "the training in {} is replaced; it is kept aside until the new one has a checkpoint\n",
      paths_.output.string());
}

ReplacedTraining::~ReplacedTraining() {
  if (aside_.empty()) return;
  try {
    settle_replaced_training(paths_);
  } catch (const std::exception& error) {
    fmt::print(stderr, "warning[{}]: the training that was replaced stays in {}: {}\n",
               WarningCode::kCleanUpFailed, aside_.string(), error.what());
  }
}

void ReplacedTraining::remove() {
  if (aside_.empty()) return;
  delete_aside(aside_);
  aside_.clear();
}

void settle_replaced_training(const RunPaths& paths) {
  std::vector<fs::path> aside;
  std::error_code error;
  for (fs::directory_iterator at(paths.output, error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename().string();
    std::error_code ignored;
    if (name.starts_with(RunPaths::kReplacedPrefix) &&
        fs::is_directory(at->symlink_status(ignored))) {
      aside.push_back(at->path());
    }
  }
  for (const fs::path& old : aside) {
    if (has_nothing(old)) {
      remove_tree(old);
      continue;
    }
    // Before the checkpoints were moved nothing was; without them aside there were none.
    if (step_directories(paths.checkpoints()).empty()) {
      put_back(paths, old);
      fmt::print(
          stderr,
          "the training that was to be replaced is back in {}: the new one had not come to a "
          "checkpoint\n",
          paths.output.string());
    } else if (!list_checkpoints(paths.checkpoints()).empty()) {
      delete_aside(old);
    } else {
      fmt::print(stderr,
                 "warning[{}]: the checkpoints in {} cannot be read; the training that they "
                 "replaced is kept in {}\n",
                 WarningCode::kCleanUpFailed, paths.checkpoints().string(), old.string());
    }
  }
}

}  // namespace sutor
