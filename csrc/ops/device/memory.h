// Counts the bytes of this process's tensors, and their peak: a wrapper around torch's CPU
// allocator. RSS says less: it includes the program itself and what the C library keeps for reuse.
#pragma once

#include <cstdint>

namespace sutor::ops {

// Call it once, before the first tensor is made. It also tells the C library to keep freed blocks
// for reuse: returning them to the system costs a page fault for every page of every step.
void install_counting_allocator();

int64_t live_tensor_bytes();
int64_t peak_tensor_bytes();

}  // namespace sutor::ops
