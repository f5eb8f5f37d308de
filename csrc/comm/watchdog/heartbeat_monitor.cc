#include "csrc/comm/watchdog/heartbeat_monitor.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/comm/wait_limit.h"
#include "csrc/comm/watchdog/exit_report.h"

namespace sutor {
namespace {

using nlohmann::json;
using State = RankView::State;

// How long the other ranks have to answer, and to end.
constexpr double kAnswerSeconds = 0.5, kEndSeconds = 1.5;

double seconds_of(const char* variable, double otherwise) {
  const char* text = std::getenv(variable);
  const double seconds = text != nullptr ? std::atof(text) : 0;
  return seconds > 0 ? seconds : otherwise;
}

}  // namespace

WatchLimits WatchLimits::from_environment() {
  WatchLimits limits;
  limits.silence = seconds_of("SUTOR_HEARTBEAT_TIMEOUT", limits.silence);
  limits.wait = seconds_of("SUTOR_COMM_TIMEOUT", limits.wait);
  limits.heartbeat = std::min(limits.heartbeat, limits.silence / 6);
  return limits;
}

HeartbeatMonitor::HeartbeatMonitor(std::vector<LineListener> listeners, const WatchedJob& job,
                                   const WatchLimits& limits, const Journal& journal)
    : job_(job),
      reception_(std::move(listeners), job.token, static_cast<int>(job.processes.size()),
                 job.own_rank),
      limits_(limits),
      view_(job.processes, Journal::now()),
      journal_(journal) {}

void HeartbeatMonitor::add_to(std::vector<pollfd>& polled) const {
  reception_.add_to(polled);
  for (const Peer& peer : peers_) {
    const bool pending = peer.socket.wants_to_send();
    polled.push_back({peer.socket.fd(), static_cast<short>(POLLIN | (pending ? POLLOUT : 0)), 0});
  }
}

void HeartbeatMonitor::pump() {
  for (Peer& peer : reception_.admit(Journal::now(), std::exchange(due_, false))) {
    view_.rank(peer.rank).heard = Journal::now();
    peers_.push_back(std::move(peer));
  }
  for (Peer& peer : peers_) read_from(peer);
  std::erase_if(peers_, [](const Peer& peer) { return !peer.socket.open(); });
}

void HeartbeatMonitor::read_from(Peer& peer) {
  std::vector<std::string> lines;
  bool good = peer.socket.read(lines);
  peer.socket.flush();  // if it fails, so does a later read, after the rank's remaining lines
  try {
    for (const std::string& line : lines) take(peer, line);
  } catch (const std::exception&) {
    good = false;  // a broken rank
  }
  if (good) return;
  peer.socket.close();
  view_.lose(peer.rank, Journal::now());
}

void HeartbeatMonitor::take(Peer& peer, const std::string& line) {
  take_line(peer.rank, line);
  if (view_.rank(peer.rank).state == State::kFinished) {
    peer.socket.send(R"({"type":"deregister"})");
  }
}

void HeartbeatMonitor::take_own(const std::string& line) { take_line(job_.own_rank, line); }

void HeartbeatMonitor::take_line(int rank, const std::string& line) {
  const json message = json::parse(line);
  const std::string type = message.at("type");
  RankView& view = view_.rank(rank);
  if (type == "failing" || type == "abort") {
    view.failing = message.at("code");
    view.failing_since = Journal::now();
    view.aborting = type == "abort";
  } else if (type == "deregister") {
    view.state = State::kFinished;
  } else {
    view_.take(rank, message, Journal::now());
    if (view.state == State::kSilent) view.state = State::kRunning;  // only late
  }
}

void HeartbeatMonitor::send_all(const std::string& line) {
  for (Peer& peer : peers_) peer.socket.send(line);
}

void HeartbeatMonitor::take_own_heartbeat() {
  for (const std::string& line : own_heartbeats_.lines(journal_)) take_own(line);
}

void HeartbeatMonitor::report_strangers(bool at_end) {
  const int64_t count = reception_.strangers();
  if (count == reported_strangers_ || (reported_strangers_ > 0 && !at_end)) return;
  reported_strangers_ = count;
  print_exit_report(fmt::format(
      "warning[{}]: {} connection{} not of this job came to the watchdog of rank {} ({}) and {} "
      "turned away\n",
      WarningCode::kStrangers, count, count == 1 ? "" : "s", job_.own_rank, reception_.address(),
      count == 1 ? "was" : "were"));
}

void HeartbeatMonitor::tick() {
  due_ = true;
  report_strangers(/*at_end=*/false);
  take_own_heartbeat();
  uint64_t progress = 0;
  for (int r = 0; r < view_.size(); ++r) progress += view_.rank(r).progress;
  note_job_progress(progress);
  send_all(json{{"type", "heartbeat"}, {"progress", progress}}.dump());
  const double now = Journal::now();
  for (int r = 0; r < view_.size(); ++r) {
    RankView& view = view_.rank(r);
    if (view.state == State::kRunning && now - view.heard > limits_.silence) {
      view.state = State::kSilent;
    }
  }
  disorder_ = view_.slow(limits_.wait, now);
  if (disorder_.empty()) disorder_ = view_.disorder(limits_.deadlock, now);
}

// How long this monitor gives the other one to act first.
double HeartbeatMonitor::takeover_delay() const {
  if (job_.own_rank == job_.first_monitor) return 0;
  const RankView& first = view_.rank(job_.first_monitor);
  if (first.state == State::kSilent) return 0;
  if (first.state != State::kDead) return limits_.second_monitor;
  for (const int r : view_.in_state(State::kDead)) {
    if (view_.rank(r).died < first.died) return limits_.after_first;
  }
  return 0;
}

// The exit code of a rank that has an error of its own and ends the job; 0 when there is none.
// Errors of communication do not count before they are printed, because a dead peer causes them.
int HeartbeatMonitor::failing_code() const {
  for (int r = 0; r < view_.size(); ++r) {
    const RankView& view = view_.rank(r);
    if (view.failing != 0 && (view.aborting || view.failing != kExitComm)) return view.failing;
  }
  return 0;
}

void HeartbeatMonitor::end_job_if_due() {
  const double now = Journal::now();
  if (const int code = failing_code(); code != 0) {
    for (int r = 0; r < view_.size(); ++r) {
      const RankView& view = view_.rank(r);
      const double limit = view.aborting ? limits_.after_abort : limits_.same_error;
      if (view.failing != 0 && now - view.failing_since > limit + takeover_delay()) end_job(code);
    }
    return;
  }
  const bool lost =
      !view_.in_state(State::kDead).empty() || !view_.in_state(State::kSilent).empty();
  if (!lost && disorder_.empty()) {
    trouble_since_ = 0;
    return;
  }
  if (trouble_since_ == 0) trouble_since_ = now;
  if (now - trouble_since_ >= takeover_delay()) report_and_end(lost ? "" : disorder_);
}

bool HeartbeatMonitor::answered_since(double asked) const {
  for (int r = 0; r < view_.size(); ++r) {
    const bool due = r != job_.own_rank && view_.rank(r).state == State::kRunning;
    if (due && view_.rank(r).heard < asked) return false;
  }
  return true;
}

// headline: empty when it is about dead or silent ranks.
void HeartbeatMonitor::report_and_end(const std::string& headline) {
  // At once, because a launcher that saw the death too is about to kill this process.
  print_exit_report(headline.empty() ? view_.headline(Journal::now()) : headline);
  const double until = Journal::now() + kAnswerSeconds;
  while (Journal::now() < until) {  // ranks that still compute may begin to wait
    const double asked = Journal::now();
    send_all(R"({"type":"heartbeat_now"})");
    pump_for(kAnswerSeconds / 4, [&] { return answered_since(asked); });
    take_own_heartbeat();
    if (answered_since(asked) && view_.settled()) break;
    pump_for(kAnswerSeconds / 20, [] { return false; });
  }
  print_exit_report(
      view_.waiting(Journal::now()) +
      fmt::format("  The job ends with exit code {}. `sutor train --resume` goes on from the "
                  "newest checkpoint.\n",
                  int{kExitComm}));
  wait_until_forwarded();
  end_job(kExitComm);
}

void HeartbeatMonitor::end_job(int exit_code) {
  const std::vector<int> silent = view_.in_state(State::kSilent);
  send_all(json{{"type", "end"}, {"code", exit_code}, {"kill", silent}}.dump());
  for (const int r : silent) kill_process(job_.processes[static_cast<size_t>(r)]);
  report_strangers(/*at_end=*/true);
  pump_for(kEndSeconds, [&] { return peers_.empty(); });
  for (const Peer& peer : peers_) kill_process(job_.processes[static_cast<size_t>(peer.rank)]);
  end_process(exit_code);
}

void HeartbeatMonitor::pump_for(double seconds, const std::function<bool()>& enough) {
  const double until = Journal::now() + seconds;
  while (!enough() && Journal::now() < until) {
    std::vector<pollfd> polled;
    add_to(polled);
    ::poll(polled.data(), polled.size(), 5);
    pump();
  }
}

bool HeartbeatMonitor::all_deregistered() const {
  return view_.in_state(State::kFinished).size() == static_cast<size_t>(view_.size());
}

void HeartbeatMonitor::acknowledge_deregistration() { send_all(R"({"type":"deregister"})"); }

}  // namespace sutor
