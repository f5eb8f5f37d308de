#include "csrc/comm/watchdog/watchdog.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"
#include "csrc/comm/wait_limit.h"
#include "csrc/comm/watchdog/exit_report.h"

namespace sutor {
namespace {

using nlohmann::json;

constexpr double kConnectSeconds = 5;  // for each address
// How long a rank that a monitor turned away, in a crowd of strangers, comes again.
constexpr double kComeAgainSeconds = 30;
// How long a rank waits for the monitors to acknowledge its deregistration, and monitors wait for
// all ranks to deregister.
constexpr double kDeregisterSeconds = 3;
// How long a rank may stay in MPI_Finalize.
constexpr double kFinalizeSeconds = 2;
// How long a rank that has lost both monitors waits for a command of one of them to arrive, and how
// long one that has lost one monitor waits for the other one to act.
constexpr double kNoMonitorSeconds = 1, kOtherMonitorSeconds = 20;

json identity_json(const ProcessIdentity& self) {
  return {{"host", self.host},
          {"space", self.space},
          {"network", self.network},
          {"pid", self.pid},
          {"start_time", self.start_time}};
}

ProcessIdentity identity_of(const json& text) {
  return {text.at("host"), text.at("space"), text.at("network"), text.at("pid"),
          text.at("start_time")};
}

// On another host than the first hub where there is one, so that the end of one host leaves a hub.
int second_monitor_of(const std::vector<ProcessIdentity>& processes) {
  for (size_t r = 1; r < processes.size(); ++r) {
    if (processes[r].network != processes[0].network) return static_cast<int>(r);
  }
  return 1;
}

bool switched_off() {
  const char* text = std::getenv("SUTOR_WATCHDOG");
  return text != nullptr && (std::string(text) == "off" || std::string(text) == "0");
}

// On loopback for ranks of the same host, and on every address under which other hosts may reach
// this one, when there are any; those that no rank comes through are closed once all are in.
std::vector<LineListener> listeners_of(const WatchedJob& job) {
  const std::string& own = job.processes[static_cast<size_t>(job.own_rank)].network;
  size_t here = 0;
  for (const ProcessIdentity& process : job.processes) here += process.network == own;
  std::vector<LineListener> listeners;
  if (here > 1) listeners.emplace_back("127.0.0.1");
  if (here == job.processes.size()) return listeners;
  std::string problem;
  for (const std::string& address : addresses_of_this_host()) {
    try {
      listeners.emplace_back(address);
    } catch (const Error& error) {  // the host's name may stand for an address that it has not
      problem = error.what();
    }
  }
  if (listeners.size() <= (here > 1 ? 1 : 0)) {
    fail(ErrorCode::kWatchdogUnconnected, "{}",
         problem.empty() ? "the watchdog found no address under which other hosts reach this one. "
                           "SUTOR_WATCHDOG=off trains without it."
                         : problem);
  }
  return listeners;
}

// Where a monitor listens: {"endpoints": [...], "token": ...}; the first one's token counts.
json listening_json(const std::vector<LineListener>& listeners) {
  json result{{"token", random_hex(4)}, {"endpoints", json::array()}};
  for (const LineListener& listener : listeners) {
    result["endpoints"].push_back(listener.endpoint());
  }
  return result;
}

}  // namespace

std::unique_ptr<Watchdog> Watchdog::start(Comm& world, const Journal& journal) {
  // Rank 0 decides for all.
  if (world.broadcast_text(switched_off() ? "off" : "on", 0, "watchdog") == "off") return nullptr;
  WatchedJob job;
  job.own_rank = world.rank();
  const std::string self = identity_json(ProcessIdentity::of_this_process()).dump();
  for (const std::string& text : world.all_gather_text(self, "watchdog processes")) {
    job.processes.push_back(identity_of(json::parse(text)));
  }
  job.second_monitor = second_monitor_of(job.processes);
  std::vector<LineListener> listeners;
  std::string where;
  if (job.own_rank == job.first_monitor || job.own_rank == job.second_monitor) {
    listeners = listeners_of(job);
    where = listening_json(listeners).dump();
  }
  std::vector<json> monitors;
  const std::vector<std::string> all = world.all_gather_text(where, "watchdog addresses");
  for (const int monitor : {job.first_monitor, job.second_monitor}) {
    monitors.push_back(json::parse(all[static_cast<size_t>(monitor)]));
  }
  job.token = monitors[0].at("token");
  std::unique_ptr<Watchdog> dog(new Watchdog(journal, job, WatchLimits::from_environment()));
  if (!listeners.empty()) {
    dog->monitor_.emplace(std::move(listeners), dog->job_, dog->limits_, journal);
  }
  dog->connect({monitors[0].at("endpoints"), monitors[1].at("endpoints")});
  dog->thread_ = std::thread([raw = dog.get()] { raw->run(); });
  return dog;
}

Watchdog::Watchdog(const Journal& journal, WatchedJob job, const WatchLimits& limits)
    : journal_(journal),
      job_(std::move(job)),
      limits_(limits),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Watchdog::~Watchdog() {
  if (!thread_.joinable()) return;
  stop_ = true;
  post("");
  thread_.join();
}

void Watchdog::connect(const std::vector<std::vector<std::string>>& endpoints) {
  const std::vector<int> monitors = {job_.first_monitor, job_.second_monitor};
  for (size_t i = 0; i < monitors.size(); ++i) {
    if (monitors[i] == job_.own_rank) continue;
    // Loopback reaches a monitor on the same host, whatever the network setup, and no other.
    const auto monitor = static_cast<size_t>(monitors[i]), own = static_cast<size_t>(job_.own_rank);
    const bool same_host = job_.processes[monitor].network == job_.processes[own].network;
    Uplink uplink;
    for (const std::string& endpoint : endpoints[i]) {
      if (endpoint.starts_with("127.") == same_host) uplink.endpoints.push_back(endpoint);
    }
    uplink.socket = LineSocket::connect(uplink.endpoints, kConnectSeconds);
    uplink.rank = monitors[i];
    uplink.heard = Journal::now();
    uplinks_.push_back(std::move(uplink));
  }
}

// A monitor turns ranks away, too, when strangers crowd before its door.
bool Watchdog::connect_again(Uplink& uplink) {
  if (uplink.welcome || Journal::now() - started_ > kComeAgainSeconds) return false;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  try {
    uplink.socket = LineSocket::connect(uplink.endpoints, /*seconds_each=*/1);
  } catch (const Error&) {
    return false;  // it is gone
  }
  return true;
}

void Watchdog::send(Uplink& uplink, const std::string& line) {
  if (uplink.welcome) {
    uplink.socket.send(line);
  } else {
    uplink.held.push_back(line);
  }
}

void Watchdog::failing(int exit_code) {
  post(json{{"type", "failing"}, {"code", exit_code}}.dump());
}

void Watchdog::aborting(int exit_code) {
  post(json{{"type", "abort"}, {"code", exit_code}}.dump());
  std::unique_lock lock(mutex_);  // the end of this process should not overtake the line
  sent_.wait_for(lock, std::chrono::seconds(1), [&] { return commands_.empty() && !sending_; });
}

void Watchdog::finalizing(int exit_code) {
  exit_code_ = exit_code;
  finalizing_since_ = Journal::now();
}

void Watchdog::deregister() {
  leaving_ = true;
  post(R"({"type":"deregister"})");
  thread_.join();
}

void Watchdog::post(const std::string& line) {
  {
    const std::lock_guard lock(mutex_);
    if (!line.empty()) commands_.push_back(line);
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void Watchdog::run() {
  sigset_t all;  // signals are the main thread's
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  // Where it is allowed, so that heartbeats go out on an overloaded machine, and the report before
  // a launcher that saw a death too kills this process. (On Linux this is the thread's own value.)
  ::setpriority(PRIO_PROCESS, 0, -10);
  double next_heartbeat = Journal::now();
  while (!stop_) {
    wait_for_events(next_heartbeat);
    for (Uplink& uplink : uplinks_) read_from(uplink);
    if (monitor_) monitor_->pump();
    send_commands();
    const double now = Journal::now();
    if (now >= next_heartbeat) {
      // Delayed (an overloaded machine, a whole job stopped and continued): lines of the other
      // ranks may still be on their way.
      const double late = now - next_heartbeat;
      if (late > 2 * limits_.heartbeat) {
        if (monitor_) monitor_->extend_deadlines(late);
        for (Uplink& uplink : uplinks_) uplink.heard += late;
      }
      for (Uplink& uplink : uplinks_) send_heartbeat(uplink);
      if (monitor_) monitor_->tick();
      next_heartbeat = now + limits_.heartbeat;
    }
    const double finalizing = finalizing_since_;
    if (finalizing > 0 && now - finalizing > kFinalizeSeconds && !leaving_) leave_without_mpi();
    if (monitor_ && !leaving_) monitor_->end_job_if_due();
    if (!leaving_) check_monitors();
    if (leaving_ && leave_now()) return;
  }
}

void Watchdog::wait_for_events(double until) {
  std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}};
  for (const Uplink& uplink : uplinks_) {
    if (!uplink.socket.open()) continue;
    const bool pending = uplink.socket.wants_to_send();
    polled.push_back({uplink.socket.fd(), static_cast<short>(POLLIN | (pending ? POLLOUT : 0)), 0});
  }
  if (monitor_) monitor_->add_to(polled);
  const double left = std::max(0.0, until - Journal::now());
  ::poll(polled.data(), polled.size(), static_cast<int>(left * 1000) + 1);
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = ::read(wake_.get(), &count, sizeof count);
}

void Watchdog::send_commands() {
  std::vector<std::string> lines;
  {
    const std::lock_guard lock(mutex_);
    lines.swap(commands_);
    sending_ = true;
  }
  for (const std::string& line : lines) {
    for (Uplink& uplink : uplinks_) send(uplink, line);
    if (monitor_) monitor_->take_own(line);
  }
  {
    const std::lock_guard lock(mutex_);
    sending_ = false;
  }
  sent_.notify_all();
}

void Watchdog::send_heartbeat(Uplink& uplink) {
  if (!uplink.socket.open() || !uplink.welcome) return;
  for (const std::string& line : uplink.heartbeats.lines(journal_)) uplink.socket.send(line);
}

void Watchdog::read_from(Uplink& uplink) {
  if (!uplink.socket.open()) return;
  std::vector<std::string> lines;
  const bool good = uplink.socket.read(lines);
  for (const std::string& line : lines) take(uplink, line);
  if (good || connect_again(uplink)) return;
  uplink.socket.close();
  uplink.lost_since = Journal::now();
}

void Watchdog::take(Uplink& uplink, const std::string& line) {
  uplink.heard = Journal::now();
  uplink.lost_since = 0;
  const json message = json::parse(line);
  if (message.contains("challenge")) {
    const std::string answer =
        answer_to(job_.token, message["challenge"], job_.own_rank, uplink.rank);
    uplink.socket.send(json{{"rank", job_.own_rank}, {"answer", answer}}.dump());
    return;
  }
  const std::string type = message.at("type");
  if (type == "welcome") {
    uplink.welcome = true;
    send_heartbeat(uplink);
    for (const std::string& held : std::exchange(uplink.held, {})) uplink.socket.send(held);
  }
  if (type == "heartbeat" && message.contains("progress")) {
    note_job_progress(message["progress"]);
  }
  if (type == "deregister") uplink.deregistered = true;
  if (type == "heartbeat_now") send_heartbeat(uplink);
  if (type != "end") return;
  for (const int r : message.at("kill").get<std::vector<int>>()) {
    kill_process(job_.processes.at(static_cast<size_t>(r)));
  }
  end_process(message.at("code"));
}

// On a rank that is not a monitor: ends it when both monitors died or stopped, or one did and the
// other one does not act.
void Watchdog::check_monitors() {
  if (monitor_) return;
  const double now = Journal::now();
  int lost = 0;
  double since = 0;
  std::string who;
  for (Uplink& uplink : uplinks_) {
    if (uplink.deregistered) continue;
    if (uplink.lost_since == 0 && now - uplink.heard > limits_.silence + limits_.second_monitor) {
      uplink.lost_since = now;
    }
    if (uplink.lost_since == 0) continue;
    ++lost;
    since = std::max(since, uplink.lost_since);
    const ProcessIdentity& process = job_.processes[static_cast<size_t>(uplink.rank)];
    who += fmt::format("{}rank {} (host {}, pid {}) {}", who.empty() ? "" : " and ", uplink.rank,
                       process.host, process.pid, uplink.socket.open() ? "is silent" : "died");
  }
  const double limit = lost == 2 ? kNoMonitorSeconds : kOtherMonitorSeconds;
  if (lost == 0 || now - since < limit) return;
  fmt::print(stderr, "error[{}]: {}, seen by rank {}, which ends with exit code {}.\n",
             ErrorCode::kRankDied, who, job_.own_rank, int{kExitComm});
  end_process(kExitComm);
}

void Watchdog::leave_without_mpi() {
  for (Uplink& uplink : uplinks_) send(uplink, R"({"type":"deregister"})");
  if (monitor_) monitor_->acknowledge_deregistration();
  // The main thread may be waiting for a line of the launcher, and must not mistake the answer to
  // the following line for it.
  struct sigaction park {};
  park.sa_handler = [](int) {
    while (true) ::pause();
  };
  ::sigaction(SIGUSR2, &park, nullptr);
  ::pthread_kill(main_thread_, SIGUSR2);
  // What MPI_Finalize sends to the launcher at its end (PMI 1).
  const std::string finalize = "cmd=finalize\n";
  const char* fd = std::getenv("PMI_FD");
  if (fd != nullptr) ::send(std::atoi(fd), finalize.data(), finalize.size(), MSG_NOSIGNAL);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  end_process(exit_code_);
}

// Whether this rank may end: the monitors have acknowledged its deregistration, and on a monitor
// all ranks have deregistered.
bool Watchdog::leave_now() {
  const double now = Journal::now();
  if (leaving_since_ == 0) leaving_since_ = now;
  const bool taken = std::all_of(uplinks_.begin(), uplinks_.end(), [](const Uplink& uplink) {
    return uplink.deregistered || !uplink.socket.open();
  });
  const bool done = taken && (!monitor_ || monitor_->all_deregistered());
  if (!done && now - leaving_since_ < kDeregisterSeconds) return false;
  if (monitor_) monitor_->report_strangers(/*at_end=*/true);
  if (monitor_) monitor_->acknowledge_deregistration();
  return true;
}

}  // namespace sutor
