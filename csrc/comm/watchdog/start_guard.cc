#include "csrc/comm/watchdog/start_guard.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "csrc/base/error.h"
#include "csrc/base/process/host.h"
#include "csrc/comm/watchdog/exit_report.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

// Ranks that do not speak wait so much longer, so that the report comes before their end; and a
// host that sees no rank stopped leaves so much time to one that does.
constexpr double kAfterSpeaker = 1, kAfterOthers = 2;
// A look at the clock counts as so much at most: this process may have been stopped itself.
constexpr double kLook = 0.2;

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct ProcessStat {
  std::string name;
  char state = '\0';
  int64_t parent = 0;
};

std::optional<ProcessStat> stat_of(int64_t pid) {
  const std::string text = content_of("/proc/" + std::to_string(pid) + "/stat");
  const size_t begin = text.find('('), end = text.rfind(')');
  if (begin == std::string::npos || end == std::string::npos || end + 4 > text.size()) return {};
  ProcessStat stat{text.substr(begin + 1, end - begin - 1), text[end + 2]};
  stat.parent = std::atoll(text.c_str() + end + 4);
  return stat;
}

// The launcher's process on this host that started this one; 0: none.
int64_t launcher_above(int64_t pid) {
  for (int steps = 0; pid > 1 && steps < 16; ++steps) {
    const auto stat = stat_of(pid);
    if (!stat) return 0;
    if (stat->name.starts_with("hydra_pmi_proxy") || stat->name.starts_with("slurmstepd")) {
      return pid;
    }
    pid = stat->parent;
  }
  return 0;
}

// From the environment that its launcher gave it; -1: none.
int rank_of(int64_t pid) {
  const std::string all = content_of("/proc/" + std::to_string(pid) + "/environ");
  const std::string key = std::string("\0PMI_RANK=", 10);
  const size_t at = ('\0' + all).find(key);
  if (at == std::string::npos) return -1;
  return std::atoi(all.c_str() + at + key.size() - 1);
}

std::vector<int64_t> processes_of_this_host() {
  std::vector<int64_t> pids;
  std::error_code error;
  for (fs::directory_iterator at("/proc", error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    int64_t pid = 0;
    const auto [stop, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (bad == std::errc() && stop == name.data() + name.size()) pids.push_back(pid);
  }
  return pids;
}

bool is_stopped(const Sibling& sibling) { return sibling.state == 'T' || sibling.state == 't'; }

std::string numbered_text(const std::vector<Sibling>& siblings) {
  std::string text;
  for (const Sibling& sibling : siblings) {
    text += fmt::format("{}rank {} (host {}, pid {})", text.empty() ? "" : ", ", sibling.rank,
                        host_name(), sibling.pid);
  }
  return text;
}

}  // namespace

std::vector<Sibling> siblings_on_this_host() {
  std::vector<Sibling> siblings;
  const int64_t launcher = launcher_above(::getpid());
  if (launcher == 0) return siblings;
  const std::string own_name = stat_of(::getpid()).value_or(ProcessStat{}).name;
  for (const int64_t pid : processes_of_this_host()) {
    const auto stat = stat_of(pid);
    if (!stat || stat->name != own_name || launcher_above(pid) != launcher) continue;
    if (const int rank = rank_of(pid); rank >= 0) siblings.push_back({rank, pid, stat->state});
  }
  std::sort(siblings.begin(), siblings.end(),
            [](const Sibling& a, const Sibling& b) { return a.rank < b.rank; });
  return siblings;
}

StartGuard::StartGuard(const WatchLimits& limits) : limits_(limits) {
  thread_ = std::thread([this] { run(); });
}

StartGuard::~StartGuard() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StartGuard::all_started() { all_started_ = true; }

// False when the start is over.
bool StartGuard::wait(double seconds) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return over_; });
}

void StartGuard::run() {
  sigset_t all;  // signals are the main thread's
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  double waited = 0, since_all_started = 0, stopped_for = 0;
  for (double next_look = 1; wait(kLook); waited += kLook) {
    if (all_started_) since_all_started += kLook;
    if (waited < next_look) continue;
    next_look = waited + 1;
    const std::vector<Sibling> siblings = siblings_on_this_host();
    std::vector<Sibling> stopped;
    std::copy_if(siblings.begin(), siblings.end(), std::back_inserter(stopped), is_stopped);
    stopped_for = stopped.empty() ? 0 : stopped_for + 1;
    if (!stopped.empty() && stopped_for > std::min(limits_.silence, limits_.wait)) {
      end(fmt::format("error[{}]: {} {} stopped (SIGSTOP) at the start of the job, and the other "
                      "ranks have waited for {:.0f} s (SUTOR_HEARTBEAT_TIMEOUT).\n",
                      ErrorCode::kRankSilent, numbered_text(stopped),
                      stopped.size() == 1 ? "is" : "are", stopped_for),
          siblings);
    }
    if (!stopped.empty()) continue;
    const bool late = since_all_started > std::min(limits_.silence, limits_.wait) + kAfterOthers;
    if (!late && waited <= limits_.wait + kAfterOthers) continue;
    end(fmt::format(
            "error[{}]: a rank of this job has not come to the start within {:.0f} s ({}): "
            "it is stopped, hangs, or its host is cut off. No rank of host {} is stopped.\n",
            ErrorCode::kRankSilent, waited, late ? "SUTOR_HEARTBEAT_TIMEOUT" : "SUTOR_COMM_TIMEOUT",
            host_name()),
        siblings);
  }
}

void StartGuard::end(const std::string& report, const std::vector<Sibling>& siblings) {
  const auto speaker = std::find_if(siblings.begin(), siblings.end(),
                                    [](const Sibling& sibling) { return !is_stopped(sibling); });
  if (speaker != siblings.end() && speaker->pid != ::getpid()) {
    wait(kAfterSpeaker);
    end_process(kExitComm);
  }
  print_exit_report(report + fmt::format("  The job ends with exit code {}.\n", int{kExitComm}));
  for (const Sibling& sibling : siblings) {
    if (is_stopped(sibling)) ::kill(static_cast<pid_t>(sibling.pid), SIGKILL);
  }
  wait_until_forwarded();
  end_process(kExitComm);
}

}  // namespace sutor
