// Whether the ranks of all hosts see the same folder.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <thread>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/process/host.h"
#include "csrc/base/text/text.h"
#include "launch/doctor/checks.h"
#include "launch/job/agreement.h"
#include "launch/log/run_paths.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr double kSeconds = 15;  // of a file system that shows names late, or hangs
constexpr auto kPoll = std::chrono::milliseconds(50);

// Reads the file as soon as it is there; "" when it is the one that rank 0 wrote.
std::string objection(const fs::path& file, const std::string& token) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(kSeconds / 3);
  do {
    if (is_file(file)) {
      return read_file(file, 4096) == token ? "" : "holds another file of that name";
    }
    std::this_thread::sleep_for(kPoll);
  } while (std::chrono::steady_clock::now() < end);
  return "does not see the file";
}

}  // namespace

Findings check_shared(const fs::path& folder, Comm& world) {
  if (world.size() == 1) return {};
  const std::string token = world.broadcast_text(random_hex(), 0, "token");
  const fs::path file = folder / fmt::format("{}{}.shared", RunPaths::kProbePrefix, token);
  std::string problem;
  if (world.rank() == 0) problem = problem_of([&] { write_new_file(file, token); });
  problem = world.broadcast_text(problem, 0, "written");
  Findings findings;
  if (problem.empty()) {
    std::string mine;
    const Findings read = within(kSeconds, "shared folder", "", [=]() -> Findings {
      return {{"", Grade::kOk, objection(file, token), ""}};
    });
    mine = read[0].text.empty()
               ? ""
               : fmt::format("rank {} ({}) {}", world.rank(), host_name(), read[0].text);
    std::string all;
    for (const std::string& each : world.all_gather_text(mine, "seen")) {
      if (!each.empty()) all += (all.empty() ? "" : "; ") + each;
    }
    const std::string where = folder.string();
    if (all.empty()) {
      findings = {{"shared folder", Grade::kOk,
                   fmt::format("all {} ranks see in {} what rank 0 writes", world.size(), where),
                   ""}};
    } else {
      findings = {{"shared folder", Grade::kFailed, fmt::format("{} is not shared: {}", where, all),
                   "the output folder must be on a file system that all hosts mount (NFS, Lustre, "
                   "...) at the same path: name one by --out, and by output in the recipe"}};
    }
  }
  if (world.rank() == 0) {
    std::error_code ignored;
    fs::remove(file, ignored);
  }
  return findings;  // a folder that cannot be written is a finding of check_folder()
}

}  // namespace sutor
