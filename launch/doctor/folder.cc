// What the folder of a run must be able to do, tried out there.
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hdf5/h5.h"
#include "csrc/base/owner/lock_file.h"
#include "csrc/base/text/text.h"
#include "launch/doctor/checks.h"
#include "launch/log/metrics_log.h"
#include "launch/log/run_paths.h"
#include "launch/preflight/directory_probe.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kRateBytes = int64_t{32} << 20, kLittleSpace = int64_t{1} << 30;
constexpr double kSlowRate = 20e6, kWrongClock = 60;

// A folder in the one that is tried, gone with the object.
class Trial {
 public:
  explicit Trial(const fs::path& folder)
      : path_(folder / fmt::format("{}{}", RunPaths::kProbePrefix, random_hex())) {
    make_directory(path_);
  }
  ~Trial() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;
  fs::path operator/(const char* name) const { return path_ / name; }

 private:
  fs::path path_;
};

Findings probed(const fs::path& folder) {
  const DirectoryProbe probe = probe_directory(folder);
  const std::string where = fmt::format("{} ({})", real_path(folder).string(), probe.file_system);
  Findings findings = {
      {"folder", Grade::kOk, where + ": files are made, renamed, synced and removed", ""}};
  const bool little = probe.free_bytes >= 0 && probe.free_bytes < kLittleSpace;
  findings.push_back(
      {"space", little ? Grade::kNote : Grade::kOk,
       probe.free_bytes < 0 ? "the file system does not say how much is free"
                            : format_bytes(probe.free_bytes) + " free",
       little
           ? "checkpoints of a training take 12 to 16 bytes a trained parameter each: free some, "
             "or name another folder by --out"
           : ""});
  if (std::abs(probe.seconds_ahead) > kWrongClock) {
    findings.push_back(
        {"clock", Grade::kNote,
         fmt::format("the folder's clock is {:.0f} s {} this host's", std::abs(probe.seconds_ahead),
                     probe.seconds_ahead > 0 ? "ahead of" : "behind"),
         "set the clocks of host and file server (chrony, ntpd)"});
  }
  const auto lacks = [&](const char* what) {
    return std::find(probe.lacks.begin(), probe.lacks.end(), what) != probe.lacks.end();
  };
  if (!probe.lacks.empty()) {
    findings.push_back({"file system", Grade::kNote,
                        fmt::format("lacks {}; sutor does without", fmt::join(probe.lacks, ", ")),
                        lacks("flock") ? "a run's lock is then a file that its holder renews: a "
                                         "second job is noticed within seconds"
                                       : ""});
  }
  return findings;
}

Findings locked(const fs::path& folder) {
  const Trial trial(folder);
  const LockFile lock(trial / "lock", "the doctor's trial folder");
  return {{"locks", Grade::kOk, "an output folder can be held by one job at a time", ""}};
}

Findings rate(const fs::path& folder) {
  const Trial trial(folder);
  const std::string block(size_t{1} << 20, 'x');
  const auto begin = std::chrono::steady_clock::now();
  OutputFile file(trial / "rate");
  for (int64_t done = 0; done < kRateBytes; done += static_cast<int64_t>(block.size())) {
    file.append(block);
  }
  file.finish();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const double per_second = static_cast<double>(kRateBytes) / std::max(1e-9, seconds.count());
  return {{"disk rate", per_second < kSlowRate ? Grade::kNote : Grade::kOk,
           fmt::format("{} written and synced at {}/s", format_bytes(kRateBytes),
                       format_bytes(static_cast<int64_t>(per_second))),
           per_second < kSlowRate ? "checkpoints will take long: a local disk, or a larger "
                                    "checkpoint.every"
                                  : ""}};
}

Findings hdf5(const fs::path& folder) {
  const Trial trial(folder);
  const fs::path path = trial / "trial.h5";
  const std::vector<int64_t> numbers = {3, 1, 4, 1, 5, 9};
  h5::write_file(path, [&](h5::File& file) {
    file.write<int64_t>("/numbers", {static_cast<int64_t>(numbers.size())}, numbers);
  });
  const h5::File file = h5::File::open(path);
  if (file.read<int64_t>("/numbers") != numbers) {
    return {{"HDF5 file", Grade::kFailed, "what was written there reads back as something else",
             "the disk or the HDF5 library is broken: try another folder by --out"}};
  }
  return {{"HDF5 file", Grade::kOk, "written there and read back", ""}};
}

}  // namespace

fs::path existing_folder(const fs::path& folder) {
  fs::path at = without_slash(folder);
  while (!at.empty() && !is_there(at)) at = parent_of(at) == at ? fs::path("/") : parent_of(at);
  return at.empty() ? fs::path(".") : at;
}

Findings check_folder(const fs::path& folder) {
  if (!is_folder(folder)) {
    return {{"folder", Grade::kFailed, folder.string() + " is no folder", "name one by --out"}};
  }
  Findings all = probed(folder);
  for (const auto& [name, check] : {std::pair{"locks", &locked}, std::pair{"disk rate", &rate},
                                    std::pair{"HDF5 file", &hdf5}}) {
    const Findings findings =
        caught(name, "try another folder by --out", [&] { return check(folder); });
    all.insert(all.end(), findings.begin(), findings.end());
  }
  return all;
}

}  // namespace sutor
