#include "csrc/base/process/host.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <limits>
#include <optional>

namespace sutor {
namespace {

// The number behind a word in a file of lines "word number ...".
std::optional<int64_t> number_in(const char* path, const std::string& wanted) {
  std::ifstream file(path);
  std::string word;
  for (int64_t number = 0; file >> word;) {
    if (file >> number && word == wanted) return number;
    file.clear();
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return {};
}

// The number that a file begins with.
std::optional<int64_t> number_of(const char* path) {
  std::ifstream file(path);
  int64_t number = 0;
  if (file >> number) return number;
  return {};
}

}  // namespace

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};  // the last byte stays 0, whatever the length
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  file >> id;
  return id;
}

int64_t available_memory() {
  int64_t available = std::numeric_limits<int64_t>::max();
  if (const auto kib = number_in("/proc/meminfo", "MemAvailable:")) available = *kib * 1024;
  const auto limit = number_of("/sys/fs/cgroup/memory.max");  // "max": none
  const auto used = number_of("/sys/fs/cgroup/memory.current");
  if (limit && used) {
    const int64_t cache = number_in("/sys/fs/cgroup/memory.stat", "file").value_or(0);
    available = std::min(available, std::max<int64_t>(0, *limit - *used + cache));
  }
  return available;
}

}  // namespace sutor
