#include "checkpoint/files/resumable_directory.h"

#include <sys/stat.h>

#include <cerrno>

#include "checkpoint/format/checkpoint_paths.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPlanFile = "PLAN";
// The plan's name from the moment when everything is there until the final name is made.
constexpr const char* kDoneFile = "DONE";
constexpr int64_t kMaxPlanBytes = int64_t{256} << 20;

void rename_over(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail_write(to, "rename to", error.value());
}

// The text that an earlier start wrote; empty when there is none.
std::string noted(const fs::path& file) {
  return is_name_taken(file) ? read_file(file, kMaxPlanBytes) : std::string();
}

}  // namespace

StagingPaths::StagingPaths(const fs::path& final_path)
    : root(parent_of(without_slash(final_path)) /
           fmt::format("{}{}.convert", kStagingPrefix,
                       without_slash(final_path).filename().string())),
      content(root / "content"),
      parts(root / "parts"),
      lock(parent_of(root) / fmt::format("{}{}.lock", kStagingPrefix,
                                         without_slash(final_path).filename().string())) {}

fs::path StagingPaths::new_part() const { return parts / random_hex(); }

void StagingPaths::move_to_content(const fs::path& part, const fs::path& name) const {
  make_directory((content / name).parent_path());
  rename_over(part, content / name);
}

ResumableDirectory::ResumableDirectory(const fs::path& final_path, const std::string& plan,
                                       bool overwrite)
    : final_(without_slash(final_path)),
      paths_(final_path),
      overwrite_(overwrite),
      mode_(new_directory_mode()) {
  const auto check_free = [&] {
    std::error_code error;
    if (!is_name_taken(final_)) return;
    if (!overwrite_) {
      fail(ErrorCode::kOutputExists,
           "{} exists already. Remove it, name another output, or add --overwrite.",
           final_.string());
    }
    if (!fs::is_directory(fs::symlink_status(final_, error))) {
      fail(ErrorCode::kOutputExists, "{} is not a directory, so it is not replaced",
           final_.string());
    }
  };
  if (!is_name_taken(paths_.root)) check_free();
  make_directory(parent_of(final_));
  lock();
  determine_state(plan);
  if (state_ == State::kPublished) return;
  try {
    check_free();
  } catch (const Error&) {
    std::error_code ignored;
    fs::remove(paths_.root, ignored);  // only when it is empty
    throw;
  }
  if (state_ == State::kFresh) clear();
  remove_tree(paths_.parts);
  make_directory(paths_.parts);
  make_directory(paths_.content);
  if (state_ == State::kFresh) write_file_atomic(paths_.root / kPlanFile, plan);
}

void ResumableDirectory::lock() {
  lock_ = std::make_unique<LockFile>(paths_.lock, final_.string());
  require_own_directory(paths_.root);
  if (::mkdir(paths_.root.c_str(), 0700) != 0 && errno != EEXIST) {
    fail_write(paths_.root, "make directory", errno);
  }
}

void ResumableDirectory::determine_state(const std::string& plan) {
  if (noted(paths_.root / kDoneFile) == plan) {
    // An earlier start had everything, and was about to make the final name or had made it. With
    // `overwrite` the two names may or may not have been exchanged: begin anew.
    if (overwrite_) return;
    if (is_name_taken(final_)) {
      remove_tree(paths_.root);
      lock_.reset();
      state_ = State::kPublished;
      return;
    }
    rename_over(paths_.root / kDoneFile, paths_.root / kPlanFile);
  }
  if (noted(paths_.root / kPlanFile) == plan && !is_name_taken(paths_.root / kDoneFile)) {
    state_ = State::kResumed;
  }
}

void ResumableDirectory::clear() {
  for (const char* name : {kPlanFile, kDoneFile}) remove_tree(paths_.root / name);
  remove_tree(paths_.content);
}

void ResumableDirectory::publish() {
  std::error_code error;
  for (fs::recursive_directory_iterator at(paths_.content, error), end; !error && at != end;
       at.increment(error)) {
    if (fs::is_directory(at->symlink_status(error))) fsync_directory(at->path());
  }
  if (error) fail_write(paths_.content, "list", error.value());
  if (::chmod(paths_.content.c_str(), mode_) != 0) fail_write(paths_.content, "set mode of", errno);
  fsync_directory(paths_.content);
  rename_over(paths_.root / kPlanFile, paths_.root / kDoneFile);
  fsync_directory(paths_.root);
  if (overwrite_ && is_name_taken(final_)) {
    replace_directory(paths_.content, final_);
  } else {
    try {
      rename_new(paths_.content, final_);
    } catch (const Error&) {
      rename_over(paths_.root / kDoneFile, paths_.root / kPlanFile);
      throw;
    }
  }
  fsync_directory(parent_of(final_));
  remove_tree(paths_.root);
  lock_.reset();
}

}  // namespace sutor
