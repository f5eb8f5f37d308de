// The contents of a run directory.
#include "launch/log/run_paths.h"

#include <system_error>

namespace sutor {

bool RunPaths::holds_training() const {
  std::error_code ignored;
  if (std::filesystem::exists(metrics(), ignored)) return true;
  return std::filesystem::is_directory(checkpoints(), ignored) &&
         !std::filesystem::is_empty(checkpoints(), ignored);
}

}  // namespace sutor
