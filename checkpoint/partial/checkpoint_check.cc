#include "checkpoint/partial/checkpoint_check.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// Differs when a file of the directory was changed, replaced, added or removed.
std::string identity_of(const fs::path& directory) {
  std::vector<std::string> lines;
  std::error_code error;
  for (fs::directory_iterator at(directory, error); !error && at != fs::directory_iterator();
       at.increment(error)) {
    struct stat status = {};
    if (::lstat(at->path().c_str(), &status) != 0) return {};
    lines.push_back(fmt::format("{} {} {} {}.{:09}\n", at->path().filename().string(),
                                status.st_ino, status.st_size, status.st_mtim.tv_sec,
                                status.st_mtim.tv_nsec));
  }
  if (error) return {};
  std::sort(lines.begin(), lines.end());
  return fmt::format("{}", fmt::join(lines, ""));
}

// Of this process: the identities of valid checkpoints by path.
class ValidCheckpoints {
 public:
  bool has(const fs::path& directory, const std::string& identity) {
    const std::lock_guard lock(mutex_);
    const auto found = identities_.find(directory.string());
    return found != identities_.end() && !identity.empty() && found->second == identity;
  }
  void note(const fs::path& directory, std::string identity) {
    const std::lock_guard lock(mutex_);
    identities_[directory.string()] = std::move(identity);
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> identities_;
};

ValidCheckpoints& valid_checkpoints() {
  static ValidCheckpoints checkpoints;
  return checkpoints;
}

}  // namespace

void check_checkpoint(const fs::path& directory, CheckDepth depth, int threads) {
  const CheckpointReader reader(directory);
  const auto step = parse_step_directory(directory.filename().string());
  if (step && reader.meta().step != *step) {
    fail(ErrorCode::kBadManifest, "{} contains a checkpoint of step {}", directory.string(),
         reader.meta().step);
  }
  if (depth == CheckDepth::kData) reader.verify(threads);
}

bool is_valid_checkpoint(const fs::path& directory) {
  const std::string identity = identity_of(directory);
  if (valid_checkpoints().has(directory, identity)) return true;
  try {
    check_checkpoint(directory, CheckDepth::kData, /*threads=*/1);
  } catch (const Error&) {
    return false;
  }
  valid_checkpoints().note(directory, identity);
  return true;
}

void note_valid_checkpoint(const fs::path& directory) {
  valid_checkpoints().note(directory, identity_of(directory));
}

}  // namespace sutor
