// How much more memory this process may take, by the machine and by the limits that are set on it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>

namespace sutor {

struct MemoryLimit {
  int64_t bytes = std::numeric_limits<int64_t>::max();
  std::string what;  // "the memory of the host", empty without a limit
};

// What all processes of the host share: free memory and swap, and the limit of this process's
// cgroup or of one above it. `proc`, `cgroups`: where the kernel shows them.
MemoryLimit shared_memory_limit(const std::filesystem::path& proc = "/proc",
                                const std::filesystem::path& cgroups = "/sys/fs/cgroup");

// What this process has for itself: its limit of address space (ulimit -v).
MemoryLimit own_memory_limit();

}  // namespace sutor
