#include "csrc/base/parallel.h"

#include <algorithm>
#include <limits>

#include "csrc/base/error.h"
#include "csrc/base/process/stop_signal.h"

namespace sutor {
namespace {

// Between tasks work may end when a signal asks for it.
void leave_if_asked() {
  const int signal = Interruptible::signal();
  if (signal == 0) return;
  fail(ErrorCode::kStopped,
       "stopped by {}: what is not complete is not published; the same command does it again",
       signal_name(signal));
}

int thread_count(int threads) {
  if (threads > 0) return threads;
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

void parallel_tasks(int threads, int64_t count, const std::function<void(int64_t)>& task) {
  const auto useful = static_cast<int>(std::min<int64_t>(thread_count(threads), count));
  ThreadTeam(std::max(1, useful)).run(0, count, task);
}

ThreadTeam::ThreadTeam(int threads) {
  for (int i = 1; i < thread_count(threads); ++i) threads_.emplace_back([this] { work(); });
}

ThreadTeam::~ThreadTeam() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
}

void ThreadTeam::run(int at_once, int64_t count, const std::function<void(int64_t)>& task) {
  Batch batch{task, count, at_once > 0 ? at_once : std::numeric_limits<int64_t>::max()};
  std::unique_lock lock(mutex_);
  batches_.push_back(&batch);
  changed_.notify_all();
  while (!batch.done()) {
    if (batch.can_start()) {
      run_one(batch, lock);
    } else {
      changed_.wait(lock);
    }
  }
  std::erase(batches_, &batch);
  lock.unlock();
  if (batch.error) std::rethrow_exception(batch.error);
}

void ThreadTeam::work() {
  std::unique_lock lock(mutex_);
  while (!ended_) {
    const auto batch = std::find_if(batches_.rbegin(), batches_.rend(),
                                    [](const Batch* batch) { return batch->can_start(); });
    if (batch == batches_.rend()) {
      changed_.wait(lock);
    } else {
      run_one(**batch, lock);
    }
  }
}

void ThreadTeam::run_one(Batch& batch, std::unique_lock<std::mutex>& lock) {
  const int64_t index = batch.next++;
  ++batch.running;
  std::exception_ptr error;
  lock.unlock();
  try {
    leave_if_asked();
    batch.task(index);
  } catch (...) {
    error = std::current_exception();
  }
  lock.lock();
  --batch.running;
  if (error) {
    if (!batch.error) batch.error = error;
    batch.next = batch.count;
  }
  // Another task may begin where their number is limited, or the batch is done.
  if (batch.done() || batch.can_start()) changed_.notify_all();
}

}  // namespace sutor
