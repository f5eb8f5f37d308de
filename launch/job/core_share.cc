#include "launch/job/core_share.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/comm/watchdog/process_identity.h"

namespace sutor {
namespace {

// Room for 8,192 cores; the kernel refuses a set that is smaller than its own.
constexpr int kMostCores = 8192;

std::vector<int> affinity() {
  std::vector<int> cores;
  cpu_set_t* set = CPU_ALLOC(kMostCores);
  const size_t bytes = CPU_ALLOC_SIZE(kMostCores);
  CPU_ZERO_S(bytes, set);
  if (::sched_getaffinity(0, bytes, set) == 0) {
    for (int core = 0; core < kMostCores; ++core) {
      if (CPU_ISSET_S(core, bytes, set)) cores.push_back(core);
    }
  }
  CPU_FREE(set);
  return cores;
}

// Whole cores of "<quota> <period>", the file cpu.max of cgroup v2; no limit: INT_MAX.
int cores_of_quota(const std::filesystem::path& folder) {
  std::ifstream file(folder / "cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || period <= 0) return INT_MAX;  // "max", or no such file
  return std::max(1, static_cast<int>(std::ceil(quota / period)));
}

// The smallest quota from this process's cgroup up to the root.
int quota() {
  std::ifstream file("/proc/self/cgroup");
  int least = INT_MAX;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("0::")) continue;
    std::filesystem::path inside = line.substr(3);
    while (true) {
      least = std::min(least, cores_of_quota("/sys/fs/cgroup" + inside.string()));
      if (!inside.has_relative_path()) break;
      inside = inside.parent_path();
    }
  }
  return least;
}

}  // namespace

int usable_cores() {
  int cores = static_cast<int>(affinity().size());
  if (cores == 0) cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, std::min(cores, quota()));
}

int core_share(Comm& world) {
  const int cores = usable_cores();
  if (world.size() == 1) return cores;
  std::string mine = ProcessIdentity::of_this_process().host;
  for (const int core : affinity()) mine += fmt::format(" {}", core);
  const std::vector<std::string> all = world.all_gather_text(mine, "share of cores");
  const auto sharing = static_cast<int>(std::count(all.begin(), all.end(), mine));
  return std::max(1, cores / sharing);
}

}  // namespace sutor
