#include "launch/save/background_task.h"

#include <utility>

#include "csrc/base/error.h"
#include "launch/job/agreement.h"

namespace sutor {

BackgroundTask::~BackgroundTask() {
  if (thread_.joinable()) thread_.join();
}

void BackgroundTask::start(std::function<std::string()> work) {
  SUTOR_ASSERT(state_ == State::kIdle);
  state_ = State::kRunning;
  thread_ = std::thread([this, work = std::move(work)] { work_now(work); });
}

void BackgroundTask::run(const std::function<std::string()>& work) {
  SUTOR_ASSERT(state_ == State::kIdle);
  work_now(work);
}

void BackgroundTask::work_now(const std::function<std::string()>& work) {
  problem_ = problem_of([&] { result_ = work(); });
  state_ = problem_.empty() ? State::kDone : State::kFailed;
}

std::string BackgroundTask::wait(std::string& result) {
  if (thread_.joinable()) thread_.join();
  state_ = State::kIdle;
  result = std::exchange(result_, "");
  return std::exchange(problem_, "");
}

}  // namespace sutor
