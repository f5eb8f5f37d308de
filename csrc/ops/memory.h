// Counts the bytes that tensors hold on this process, and their peak: a wrapper around torch's CPU
// allocator. RSS says less: it holds the program itself and what the C library keeps for reuse.
#pragma once

#include <cstdint>

namespace sutor::ops {

// To be called once, before the first tensor is made. Also tells the C library to keep freed blocks
// for reuse: giving them back to the system costs a page fault for every page of every step.
void install_counting_allocator();

int64_t live_tensor_bytes();
int64_t peak_tensor_bytes();

}  // namespace sutor::ops
