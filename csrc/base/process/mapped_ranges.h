// The mapped files of this process, for the handler of SIGBUS, which may neither lock nor allocate.
#pragma once

#include <cstddef>

namespace sutor {

// Keeps a copy of the path; returns a handle for forget_mapped_range(). Files beyond a few thousand
// at a time go unnamed (-1).
int note_mapped_range(const void* begin, size_t size, const char* path);
void forget_mapped_range(int handle);

// The path of the file that is mapped at this address; null: none. Async-signal-safe.
const char* mapped_path(const void* address);

}  // namespace sutor
