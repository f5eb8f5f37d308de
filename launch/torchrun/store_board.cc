#include "launch/torchrun/store_board.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr double kQuietSeconds = 10;  // so long nothing is said about a wait
constexpr auto kLookAgain = std::chrono::milliseconds(100);

// "msg" of "msg\nException raised from ...".
std::string first_line(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

class StoreBoard : public Board {
 public:
  StoreBoard(c10::intrusive_ptr<c10d::TCPStore> store, TorchEnvironment torch)
      : store_(std::move(store)), torch_(std::move(torch)), prefix_("sutor/" + torch_.job + "/") {}

  void put(const std::string& key, const std::string& value) override {
    asked([&] { store_->set(prefix_ + key, std::vector<uint8_t>(value.begin(), value.end())); });
  }
  std::optional<std::string> get(const std::string& key) override {
    return asked([&]() -> std::optional<std::string> {
      if (!store_->check({prefix_ + key})) return std::nullopt;
      const std::vector<uint8_t> value = store_->get(prefix_ + key);
      return std::string(value.begin(), value.end());
    });
  }
  int64_t add(const std::string& key, int64_t number) override {
    return asked([&] { return store_->add(prefix_ + key, number); });
  }

 private:
  // The store ends with the process that keeps it: when rank 0 failed, the others hear of it so.
  template <typename Ask>
  auto asked(const Ask& ask) -> decltype(ask()) {
    try {
      return ask();
    } catch (const std::exception& error) {
      fail(
          ErrorCode::kRankDied,
          "the meeting place of the ranks, {}, is gone: {}. {}, which kept it, has ended: see what "
          "it said",
          torch_.meeting_place(), first_line(error), torch_.agent_store ? "torchrun" : "Rank 0");
    }
  }

  c10::intrusive_ptr<c10d::TCPStore> store_;
  TorchEnvironment torch_;
  std::string prefix_;
};

// Why nothing could be connected to; empty when it could.
std::string connection_problem(const TorchEnvironment& torch) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  const int error =
      ::getaddrinfo(torch.address.c_str(), std::to_string(torch.port).c_str(), &hints, &found);
  if (error != 0) return ::gai_strerror(error);
  std::string problem = "it has no address";
  for (const addrinfo* at = found; at != nullptr && !problem.empty(); at = at->ai_next) {
    const int fd = ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0) continue;
    problem = ::connect(fd, at->ai_addr, at->ai_addrlen) == 0 ? "" : std::strerror(errno);
    ::close(fd);
  }
  ::freeaddrinfo(found);
  return problem;
}

// The store's own client would tell of each of its attempts, with a trace.
void wait_for_connection(const TorchEnvironment& torch, double seconds) {
  const auto begin = std::chrono::steady_clock::now();
  bool said = false;
  while (true) {
    const std::string problem = connection_problem(torch);
    if (problem.empty()) return;
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    const std::string where = fmt::format(
        "rank {} cannot reach {} (MASTER_ADDR, MASTER_PORT: {} is there) after {:.0f} s: "
        "{}",
        torch.rank, torch.meeting_place(), torch.agent_store ? "torchrun" : "rank 0",
        waited.count(), problem);
    if (waited.count() > seconds) {
      fail(ErrorCode::kCommTimeout,
           "{}. Was it started, and does a firewall let that port through?", where);
    }
    if (!said && waited.count() > kQuietSeconds) {
      std::fprintf(stderr, "%s; waiting\n", where.c_str());
      said = true;
    }
    std::this_thread::sleep_for(kLookAgain);
  }
}

}  // namespace

std::shared_ptr<Board> open_store_board(const TorchEnvironment& torch, double seconds) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(torch.port);
  options.isServer = torch.rank == 0 && !torch.agent_store;
  options.waitWorkers = false;
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  if (!options.isServer) wait_for_connection(torch, seconds);
  try {
    return std::make_shared<StoreBoard>(c10::make_intrusive<c10d::TCPStore>(torch.address, options),
                                        torch);
  } catch (const std::exception& error) {
    fail(ErrorCode::kRanksApart,
         "rank {} cannot {} {} (MASTER_ADDR, MASTER_PORT), where the {} ranks of this job are to "
         "meet: {}. Is the port another job's? Choose one that is free on the host of rank 0",
         torch.rank, options.isServer ? "open" : "use", torch.meeting_place(), torch.world_size,
         first_line(error));
  }
}

}  // namespace sutor
