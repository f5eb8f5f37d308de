// In place of CUDA's header (cuda_emulation.h): asynchronous copies to shared memory, each made
// when its thread waits for it and not before.
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

#include "tests/support/cuda_emulation/cuda_emulation.h"

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes, size_t zeros = 0) {
  namespace emulation = sutor::cuda_emulation;
  emulation::require(bytes == 4 || bytes == 8 || bytes == 16, "a copy of 4, 8 or 16 bytes");
  emulation::require(emulation::is_multiple(to, bytes) && emulation::is_multiple(from, bytes),
                     "a misaligned asynchronous copy");
  emulation::open_copies.push_back({to, from, bytes, zeros});
}

inline void __pipeline_commit() {
  namespace emulation = sutor::cuda_emulation;
  emulation::committed_copies.push_back(std::exchange(emulation::open_copies, {}));
}

// Until at most so many of the last commits are not copied.
inline void __pipeline_wait_prior(size_t commits) {
  auto& committed = sutor::cuda_emulation::committed_copies;
  for (; committed.size() > commits; committed.pop_front()) {
    for (const auto& copy : committed.front()) {
      const size_t kept = copy.bytes - copy.zeros;
      std::memcpy(copy.to, copy.from, kept);
      std::memset(static_cast<unsigned char*>(copy.to) + kept, 0, copy.zeros);
    }
  }
}
