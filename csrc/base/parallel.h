// Spreads work over threads, without OpenMP: for reading, hashing and generating files.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sutor {

// Calls task(i) for all i in [0, count) from up to `threads` threads (0 = as many as this process
// may use), which take the indices in rising order. Rethrows the first exception after all threads
// have stopped; tasks that had not begun when it was thrown do not run. Throws E7500 between tasks
// when a signal asks for it and this work may end (csrc/base/process/stop_signal.h).
void parallel_tasks(int threads, int64_t count, const std::function<void(int64_t)>& task);

// Threads for tasks that themselves share out work: whatever is run at a time, nested or not, runs
// on the same threads, so that their number stays what it is.
class ThreadTeam {
 public:
  // `threads` at work at once, the caller of run() included; 0 = as many as this process may use.
  explicit ThreadTeam(int threads);
  ~ThreadTeam();

  // As parallel_tasks(), with at most `at_once` tasks of this call begun and not done (0 = any
  // number). A task may call run() again: its thread works on those tasks, and free ones help.
  void run(int at_once, int64_t count, const std::function<void(int64_t)>& task);

 private:
  struct Batch {
    const std::function<void(int64_t)>& task;
    int64_t count;
    int64_t at_once;
    int64_t next = 0, running = 0;
    std::exception_ptr error{};
    bool can_start() const { return next < count && running < at_once; }
    bool done() const { return next >= count && running == 0; }
  };
  void work();
  // Runs the next task of the batch, which can start one, without the lock.
  void run_one(Batch& batch, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Batch*> batches_;  // the innermost last
  bool ended_ = false;
  std::vector<std::jthread> threads_;  // last: they use the others
};

}  // namespace sutor
