#include "launch/doctor/finding.h"

#include <fmt/format.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <thread>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/job/current_error.h"

namespace sutor {

const char* name_of(Grade grade) {
  return grade == Grade::kOk ? "ok" : grade == Grade::kNote ? "note" : "FAILED";
}

Findings caught(const std::string& check, const std::string& remedy,
                const std::function<Findings()>& body) {
  try {
    return body();
  } catch (...) {
    const Error error = current_error();
    return {{check, Grade::kFailed, fmt::format("{}: {}", error.code(), error.what()), remedy}};
  }
}

Findings within(double seconds, const std::string& check, const std::string& remedy,
                const std::function<Findings()>& body) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable done;
    bool is_done = false;
    Findings findings;
  };
  const auto shared = std::make_shared<Shared>();
  std::thread([=] {
    Findings findings = caught(check, remedy, body);
    const std::lock_guard lock(shared->mutex);
    shared->findings = std::move(findings);
    shared->is_done = true;
    shared->done.notify_all();
  }).detach();
  std::unique_lock lock(shared->mutex);
  const auto limit = std::chrono::duration<double>(seconds);
  if (shared->done.wait_for(lock, limit, [&] { return shared->is_done; })) return shared->findings;
  return {{check, Grade::kFailed, fmt::format("no answer within {:.0f} s", seconds), remedy}};
}

void end_children() {
  std::error_code ignored;
  const std::filesystem::directory_iterator tasks("/proc/self/task", ignored), end;
  if (ignored) return;
  for (auto at = tasks; at != end; at.increment(ignored)) {
    std::ifstream children(at->path() / "children");
    for (pid_t child; children >> child;) ::kill(child, SIGKILL);
    if (ignored) return;
  }
}

}  // namespace sutor
