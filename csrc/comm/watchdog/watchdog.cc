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
#include <random>

#include "csrc/base/error.h"
#include "csrc/comm/watchdog/exit_report.h"

namespace sutor {
namespace {

using nlohmann::json;

constexpr double kConnectSeconds = 5;  // for each address
// The longest a rank waits for the hubs to take its goodbye, and hubs for those of all ranks.
constexpr double kDeregisterSeconds = 3;
// The longest a rank stays in MPI_Finalize.
constexpr double kFinalizeSeconds = 2;
// A rank that has lost both hubs gives the verdict of one of them this long to arrive; one that has
// lost one of them gives the other one so long to act.
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

std::string random_token() {
  std::random_device random;
  std::string token;
  for (int i = 0; i < 4; ++i) token += fmt::format("{:08x}", random());
  return token;
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

// Where a hub listens: {"port": ..., "addresses": [...]}, and the first hub's token.
json listening_json(const LineListener& listener, bool only_this_host) {
  json result{{"port", listener.port()}, {"token", random_token()}};
  result["addresses"] =
      only_this_host ? std::vector<std::string>{"127.0.0.1"} : addresses_of_this_host();
  return result;
}

}  // namespace

std::unique_ptr<Watchdog> Watchdog::start(Comm& world, const Journal& journal) {
  // The choice of rank 0 holds for all.
  if (world.broadcast_text(switched_off() ? "off" : "on", 0, "watchdog") == "off") return nullptr;
  WatchedJob job;
  job.own_rank = world.rank();
  const std::string self = identity_json(ProcessIdentity::of_this_process()).dump();
  for (const std::string& text : world.all_gather_text(self, "watchdog processes")) {
    job.processes.push_back(identity_of(json::parse(text)));
  }
  job.second_monitor = second_monitor_of(job.processes);
  const bool one_host = std::all_of(
      job.processes.begin(), job.processes.end(),
      [&](const ProcessIdentity& process) { return process.network == job.processes[0].network; });
  std::optional<LineListener> listener;
  std::string where;
  if (job.own_rank == job.first_monitor || job.own_rank == job.second_monitor) {
    listener.emplace(one_host);
    where = listening_json(*listener, one_host).dump();
  }
  std::vector<json> monitors;
  const std::vector<std::string> all = world.all_gather_text(where, "watchdog addresses");
  for (const int monitor : {job.first_monitor, job.second_monitor}) {
    monitors.push_back(json::parse(all[static_cast<size_t>(monitor)]));
  }
  job.token = monitors[0].at("token");
  std::unique_ptr<Watchdog> dog(new Watchdog(journal, job, WatchLimits::from_environment()));
  if (listener) dog->monitor_.emplace(std::move(*listener), dog->job_, dog->limits_, journal);
  dog->connect({monitors[0].at("addresses"), monitors[1].at("addresses")},
               {monitors[0].at("port"), monitors[1].at("port")});
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

void Watchdog::connect(const std::vector<std::vector<std::string>>& addresses,
                       const std::vector<int>& ports) {
  const std::vector<int> monitors = {job_.first_monitor, job_.second_monitor};
  for (size_t i = 0; i < monitors.size(); ++i) {
    if (monitors[i] == job_.own_rank) continue;
    // A hub on the same host is reached by loopback too, whatever the network thinks.
    std::vector<std::string> to = addresses[i];
    const auto monitor = static_cast<size_t>(monitors[i]), own = static_cast<size_t>(job_.own_rank);
    if (job_.processes[monitor].network == job_.processes[own].network) to.push_back("127.0.0.1");
    Uplink uplink;
    uplink.socket = LineSocket::connect(to, ports[i], kConnectSeconds);
    uplink.rank = monitors[i];
    uplink.heard = Journal::now();
    uplink.socket.send(json{{"token", job_.token}, {"rank", job_.own_rank}}.dump());
    uplinks_.push_back(std::move(uplink));
  }
}

void Watchdog::failing(int exit_code) {
  post(json{{"type", "failing"}, {"code", exit_code}}.dump());
}

void Watchdog::aborting(int exit_code) {
  post(json{{"type", "abort"}, {"code", exit_code}}.dump());
  std::unique_lock lock(mutex_);  // what ends this process next should not overtake it
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
  // Where it is allowed: beats go out on an overloaded machine, and the report before the launcher
  // that saw a death too kills this process. (On Linux this is the thread's own value.)
  ::setpriority(PRIO_PROCESS, 0, -10);
  double next_heartbeat = Journal::now();
  while (!stop_) {
    wait_for_events(next_heartbeat);
    for (Uplink& uplink : uplinks_) read_from(uplink);
    if (monitor_) monitor_->pump();
    send_commands();
    const double now = Journal::now();
    if (now >= next_heartbeat) {
      // Held up (an overloaded machine, all of the job stopped and continued): what the others had
      // to say may still be on its way.
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
    for (Uplink& uplink : uplinks_) uplink.socket.send(line);
    if (monitor_) monitor_->take_own(line);
  }
  {
    const std::lock_guard lock(mutex_);
    sending_ = false;
  }
  sent_.notify_all();
}

void Watchdog::send_heartbeat(Uplink& uplink) {
  if (!uplink.socket.open()) return;
  for (const std::string& line : uplink.heartbeats.lines(journal_)) uplink.socket.send(line);
}

void Watchdog::read_from(Uplink& uplink) {
  if (!uplink.socket.open()) return;
  std::vector<std::string> lines;
  const bool good = uplink.socket.read(lines);
  for (const std::string& line : lines) take(uplink, line);
  if (good) return;
  uplink.socket.close();
  uplink.lost_since = Journal::now();
}

void Watchdog::take(Uplink& uplink, const std::string& line) {
  uplink.heard = Journal::now();
  uplink.lost_since = 0;
  const json message = json::parse(line);
  const std::string type = message.at("type");
  if (type == "deregister") uplink.deregistered = true;
  if (type == "heartbeat_now") send_heartbeat(uplink);
  if (type != "end") return;
  for (const int r : message.at("kill").get<std::vector<int>>()) {
    kill_process(job_.processes.at(static_cast<size_t>(r)));
  }
  end_process(message.at("code"));
}

// For a rank that is no hub: the hubs died or stopped, both of them, or one and the other does not
// act.
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
  for (Uplink& uplink : uplinks_) uplink.socket.send(R"({"type":"deregister"})");
  if (monitor_) monitor_->acknowledge_deregistration();
  // The main thread may be waiting for a line of the launcher, and must not take the answer to what
  // follows for it.
  struct sigaction park {};
  park.sa_handler = [](int) {
    while (true) ::pause();
  };
  ::sigaction(SIGUSR2, &park, nullptr);
  ::pthread_kill(main_thread_, SIGUSR2);
  // What MPI_Finalize says to the launcher at its end (PMI 1).
  const std::string finalize = "cmd=finalize\n";
  const char* fd = std::getenv("PMI_FD");
  if (fd != nullptr) ::send(std::atoi(fd), finalize.data(), finalize.size(), MSG_NOSIGNAL);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  end_process(exit_code_);
}

// Whether this rank may leave: the hubs have taken its goodbye; a hub has those of all.
bool Watchdog::leave_now() {
  const double now = Journal::now();
  if (leaving_since_ == 0) leaving_since_ = now;
  const bool taken = std::all_of(uplinks_.begin(), uplinks_.end(), [](const Uplink& uplink) {
    return uplink.deregistered || !uplink.socket.open();
  });
  const bool done = taken && (!monitor_ || monitor_->all_deregistered());
  if (!done && now - leaving_since_ < kDeregisterSeconds) return false;
  if (monitor_) monitor_->acknowledge_deregistration();
  return true;
}

}  // namespace sutor
