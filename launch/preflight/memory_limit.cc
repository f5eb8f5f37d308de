#include "launch/preflight/memory_limit.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>

namespace sutor {
namespace fs = std::filesystem;
namespace {

std::optional<int64_t> number_in(const fs::path& file) {
  std::ifstream stream(file);
  int64_t value = 0;
  if (stream >> value) return value;
  return {};  // no such file, or "max"
}

// The value behind a word, of "word value" lines.
int64_t value_of(const fs::path& file, const std::string& word) {
  std::ifstream stream(file);
  std::string name;
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with(word + " ") && !line.starts_with(word + ":")) continue;
    return std::atoll(line.c_str() + word.size() + 1);
  }
  return 0;
}

void lower(MemoryLimit& limit, int64_t bytes, const std::string& what) {
  if (bytes >= limit.bytes) return;
  limit = {std::max<int64_t>(0, bytes), what};
}

// Pages of files go when memory is short, so they do not count as used.
void lower_to_group(MemoryLimit& limit, const fs::path& folder) {
  const auto most = number_in(folder / "memory.max");
  if (!most) return;
  const int64_t used = number_in(folder / "memory.current").value_or(0);
  const fs::path stat = folder / "memory.stat";
  const int64_t files = value_of(stat, "active_file") + value_of(stat, "inactive_file");
  lower(limit, *most - std::max<int64_t>(0, used - files),
        fmt::format("the limit of cgroup {}", folder.string()));
}

}  // namespace

MemoryLimit shared_memory_limit(const fs::path& proc, const fs::path& cgroups) {
  MemoryLimit limit;
  const fs::path meminfo = proc / "meminfo";
  const int64_t kib = value_of(meminfo, "MemAvailable") + value_of(meminfo, "SwapFree");
  if (kib > 0) lower(limit, kib * 1024, "the free memory of the host");
  std::ifstream file(proc / "self" / "cgroup");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("0::/")) continue;
    fs::path inside = fs::path(line.substr(4)).lexically_normal();
    while (true) {
      lower_to_group(limit, inside.empty() ? cgroups : cgroups / inside);
      if (inside.empty()) break;
      inside = inside.parent_path();
    }
  }
  return limit;
}

MemoryLimit own_memory_limit() {
  MemoryLimit limit;
  struct rlimit space;
  if (::getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur == RLIM_INFINITY) return limit;
  const int64_t pages = number_in("/proc/self/statm").value_or(0);
  lower(limit, static_cast<int64_t>(space.rlim_cur) - pages * ::sysconf(_SC_PAGESIZE),
        "the limit of address space (ulimit -v)");
  return limit;
}

}  // namespace sutor
