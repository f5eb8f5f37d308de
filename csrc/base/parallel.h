// Spreads work over threads, without OpenMP: for reading, hashing and generating files.
#pragma once

#include <cstdint>
#include <functional>

namespace sutor {

// Calls task(i) for all i in [0, count) from up to `threads` threads (0 = as many as this process
// may use), which take the indices in rising order. Rethrows the first exception after all threads
// have stopped; tasks that had not begun when it was thrown do not run.
void parallel_tasks(int threads, int64_t count, const std::function<void(int64_t)>& task);

}  // namespace sutor
