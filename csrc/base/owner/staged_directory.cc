#include "csrc/base/owner/staged_directory.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/owner/process_owner.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr size_t kRandomDigits = 16;

// "<prefix><name>.<random>", as this class and replace_directory() make them.
bool is_leftover(std::string_view entry, std::string_view prefix, std::string_view name) {
  const std::string start = fmt::format("{}{}.", prefix, name);
  if (!entry.starts_with(start)) return false;
  const std::string_view random = entry.substr(start.size());
  return random.size() == kRandomDigits &&
         random.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// A leftover that cannot be removed is in nobody's way.
void remove_leftovers(const fs::path& final_path) {
  const std::string name = final_path.filename().string();
  std::error_code error;
  for (fs::directory_iterator at(parent_of(final_path), error), end; !error && at != end;
       at.increment(error)) {
    const std::string entry = at->path().filename().string();
    std::error_code ignored;
    if (!fs::is_directory(at->symlink_status(ignored))) continue;
    const bool dead = is_leftover(entry, ".staging-", name) && owner_is_gone(at->path());
    if (dead || is_leftover(entry, ".trash-", name)) fs::remove_all(at->path(), ignored);
  }
}

void make_new_directory(const fs::path& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) != 0) fail_write(path, "make directory", errno);
}

}  // namespace

StagedDirectory::StagedDirectory(const fs::path& final_path, bool replace)
    : final_(without_slash(final_path)), replace_(replace) {
  if (replace_) {
    require_own_directory(final_);
  } else if (is_name_taken(final_)) {
    fail(ErrorCode::kOutputExists, "{} exists already. Remove it or name another output.",
         final_.string());
  }
  make_directory(parent_of(final_));
  remove_leftovers(final_);
  root_ =
      parent_of(final_) / fmt::format(".staging-{}.{}", final_.filename().string(), random_hex());
  content_ = root_ / "content";
  make_new_directory(root_, 0700);
  try {
    write_owner(root_ / kOwnerFile);
    make_new_directory(content_, 0777);  // less the umask, as it will be published
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
    throw;
  }
}

StagedDirectory::~StagedDirectory() {
  if (published_) return;
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

void StagedDirectory::publish() {
  std::error_code error;
  for (fs::recursive_directory_iterator at(content_, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code unknown;
    const fs::file_status status = at->symlink_status(unknown);
    if (fs::is_directory(status)) fsync_directory(at->path());
    if (fs::is_regular_file(status)) fsync_path(at->path());
  }
  if (error) fail_write(content_, "list", error.value());
  fsync_directory(content_);
  if (replace_ && is_name_taken(final_)) {
    require_own_directory(final_);
    replace_directory(content_, final_);
  } else {
    rename_new(content_, final_);
  }
  published_ = true;
  fsync_directory(parent_of(final_));
  remove_tree(root_);
}

}  // namespace sutor
