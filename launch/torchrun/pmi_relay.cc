#include "launch/torchrun/pmi_relay.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "csrc/base/error.h"
#include "csrc/comm/watchdog/exit_report.h"

namespace sutor {
namespace {

// Lines of PMI 1 end within so many bytes, in MPICH's own reader too.
constexpr size_t kLongestLine = 1024;
constexpr size_t kLongestMapping = 900;

// The value of "name=" in "cmd=put kvsname=k key=a value=b c": up to the next blank; `value`, which
// comes last, up to the end.
std::string field(const std::string& request, const std::string& name) {
  const std::string text = " " + request;
  const size_t at = text.find(" " + name + "=");
  if (at == std::string::npos) return "";
  const size_t begin = at + name.size() + 2;
  if (name == "value") return text.substr(begin);
  return text.substr(begin, text.find(' ', begin) - begin);
}

std::string key_of(const std::string& request) { return "pmi/" + field(request, "key"); }

}  // namespace

std::string process_mapping(const std::vector<std::string>& hosts) {
  std::vector<std::string> known;
  std::string text = "(vector";
  for (size_t rank = 0; rank < hosts.size();) {
    size_t end = rank;
    while (end < hosts.size() && hosts[end] == hosts[rank]) ++end;
    const auto at = std::find(known.begin(), known.end(), hosts[rank]);
    const auto host = at - known.begin();
    if (at == known.end()) known.push_back(hosts[rank]);
    text += fmt::format(",({},1,{})", host, end - rank);
    rank = end;
  }
  text += ")";
  return text.size() > kLongestMapping ? "" : text;
}

std::string PmiAnswers::answer(const std::string& request) {
  const std::string command = field(request, "cmd");
  if (command == "init") return "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0";
  if (command == "get_maxes") return "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024";
  if (command == "get_appnum") return "cmd=appnum appnum=0";
  if (command == "get_my_kvsname") return "cmd=my_kvsname kvsname=sutor";
  if (command == "get_universe_size") return fmt::format("cmd=universe_size size={}", job_.size);
  if (command == "put") {
    board_.put(key_of(request), field(request, "value"));
    return "cmd=put_result rc=0 msg=success";
  }
  if (command == "get") {
    const bool mapping = field(request, "key") == "PMI_process_mapping" && !job_.mapping.empty();
    const auto value = mapping ? job_.mapping : board_.get(key_of(request));
    if (!value) return "cmd=get_result rc=-1 msg=key_not_found value=unknown";
    return "cmd=get_result rc=0 msg=success value=" + *value;
  }
  if (command == "barrier_in") {
    barrier();
    return "cmd=barrier_out";
  }
  if (command == "abort") {
    board_.put("abort", std::to_string(job_.rank));
    return "";
  }
  if (command == "finalize") {
    finalized_ = true;
    return "cmd=finalize_ack";
  }
  fail(ErrorCode::kMpiFailed, "MPI asks its launcher for `{}`, which is not known here", command);
}

void PmiAnswers::barrier() {
  const std::string name = fmt::format("barrier/{}", barriers_++);
  if (board_.add(name, 1) == job_.size) board_.put(name + "/open", "1");
  const auto begin = std::chrono::steady_clock::now();
  while (!wait_for(board_, name + "/open", 1)) {
    if (const auto rank = board_.get("abort")) {
      fail(ErrorCode::kRankDied, "rank {} gave up at the start of the job", *rank);
    }
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    if (waited.count() > job_.limit) {
      fail(ErrorCode::kCommTimeout,
           "{} of {} ranks came to the start of MPI within {:.0f} s (SUTOR_COMM_TIMEOUT)",
           board_.add(name, 0), job_.size, job_.limit);
    }
  }
}

PmiRelay::PmiRelay(std::shared_ptr<Board> board, RelayedJob job)
    : board_(std::move(board)), job_(std::move(job)) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    fail(ErrorCode::kMpiFailed, "no pair of sockets: {}", std::strerror(errno));
  }
  own_end_ = ends[0];
  mpi_end_ = ends[1];
  thread_ = std::thread([this] { run(); });
}

PmiRelay::~PmiRelay() {
  ::shutdown(mpi_end_, SHUT_RDWR);
  thread_.join();
  ::close(own_end_);
  ::close(mpi_end_);
}

void PmiRelay::end_with(const Error& error) {
  print_exit_report(fmt::format("rank {}: {}\n", job_.rank, error.report()));
  wait_until_forwarded();
  end_process(kExitComm);
}

void PmiRelay::run() {
  sigset_t all;  // signals are the main thread's
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  PmiAnswers answers(*board_, job_);
  std::string text;
  char part[kLongestLine];
  while (!answers.finalized()) {
    const ssize_t bytes = ::recv(own_end_, part, sizeof part, 0);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return;
    text.append(part, static_cast<size_t>(bytes));
    for (size_t end; (end = text.find('\n')) != std::string::npos;) {
      const std::string request = text.substr(0, end);
      text.erase(0, end + 1);
      try {
        std::string answer = answers.answer(request);
        if (answer.empty()) continue;
        answer += '\n';
        ::send(own_end_, answer.data(), answer.size(), MSG_NOSIGNAL);
      } catch (const Error& error) {
        end_with(error);
      }
    }
  }
}

}  // namespace sutor
