// The contents of a run directory.
#include "launch/log/run_paths.h"

#include <system_error>

#include "csrc/base/error.h"

namespace sutor {

bool RunPaths::holds_training() const {
  std::error_code error;
  const bool found = std::filesystem::exists(metrics(), error) ||
                     (!error && std::filesystem::is_directory(checkpoints(), error) && !error &&
                      !std::filesystem::is_empty(checkpoints(), error));
  if (error && error != std::errc::no_such_file_or_directory &&
      error != std::errc::not_a_directory) {
    // Not knowing is not the same as nothing.
    fail(ErrorCode::kUnreadableFile, "cannot look into {}: {}", output.string(), error.message());
  }
  return found;
}

}  // namespace sutor
