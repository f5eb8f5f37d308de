// Counts the bytes of this process's tensors, and their peak: by a wrapper around torch's CPU
// allocator, and on a GPU by torch's caching allocator. RSS says less: it includes the program
// itself and what the C library keeps for reuse.
#pragma once

#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <string>

namespace sutor::ops {

// Call it once, before the first tensor is made. It also tells the C library to keep freed blocks
// for reuse: returning them to the system costs a page fault for every page of every step.
void install_counting_allocator();

struct MemoryUse {
  int64_t allocated = 0;  // bytes of the tensors that there are
  int64_t reserved = 0;   // with what is kept for reuse; on the CPU the same
  int64_t peak = 0;       // of `allocated`, since the start
};
MemoryUse memory_use(at::Device device);

// What torch says of an allocation that failed, in one line.
std::string allocation_text(const c10::OutOfMemoryError& error);

}  // namespace sutor::ops
