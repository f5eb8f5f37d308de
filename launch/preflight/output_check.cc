#include "launch/preflight/output_check.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr double kMostSecondsApart = 300;
constexpr int64_t kEarliestClock = 1704067200;  // 2024: before that no sutor was built

// The path itself or the nearest one above that exists; it has to be a folder.
fs::path nearest_folder(const fs::path& wanted) {
  fs::path path = without_slash(wanted);
  while (true) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::is_directory(status)) return path;
    if (status.type() != fs::file_type::not_found) {
      if (error) fail_write(path, "look up", error.value());
      fail(ErrorCode::kOutputExists,
           "{} is no folder, so that {} cannot be written. Remove it, or name another output.",
           path.string(), wanted.string());
    }
    path = parent_of(path);
  }
}

void warn_of_clock(const OutputReport& report) {
  const double ahead = report.probe.seconds_ahead;
  if (std::abs(ahead) > kMostSecondsApart) {
    fmt::print(stderr,
               "warning: the clock of the file system of {} is {:.0f} s {} this host's: ages of "
               "files and of locks cannot be told\n",
               report.probed.string(), std::abs(ahead), ahead > 0 ? "ahead of" : "behind");
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  if (std::chrono::duration_cast<std::chrono::seconds>(now).count() < kEarliestClock) {
    fmt::print(stderr, "warning: the clock of this host is not set: it shows a time before 2024\n");
  }
}

}  // namespace

OutputReport check_output(const RunPaths& paths) {
  OutputReport report;
  report.probed = nearest_folder(paths.output);
  report.probe = probe_directory(report.probed);
  const fs::path checkpoints = nearest_folder(paths.checkpoints());
  if (checkpoints == without_slash(paths.checkpoints()))
    report.probe = probe_directory(checkpoints);
  warn_of_clock(report);
  return report;
}

}  // namespace sutor
