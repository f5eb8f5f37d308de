// One piece of work at a time on a thread of its own, which makes no MPI calls and touches no torch
// tensors. All functions but the work itself run on the thread that owns the object.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

namespace sutor {

class BackgroundTask {
 public:
  ~BackgroundTask();

  enum class State { kIdle, kRunning, kDone, kFailed };
  // The work's result is text for result(); what it throws is problem(). The task must be idle.
  void start(std::function<std::string()> work);
  // The same on the calling thread: returns when the work has ended.
  void run(const std::function<std::string()>& work);
  State state() const { return state_.load(); }
  // Waits for the end of the work; afterwards the task is idle. Returns the problem as problem_of()
  // makes it (agreement.h), empty when there was none; `result` receives the result.
  std::string wait(std::string& result);

 private:
  void work_now(const std::function<std::string()>& work);

  std::atomic<State> state_ = State::kIdle;
  std::string result_, problem_;
  std::thread thread_;
};

}  // namespace sutor
