#include "launch/torchrun/join.h"

#include <chrono>
#include <cstdlib>
#include <thread>

#include "csrc/base/error.h"
#include "csrc/base/process/host.h"
#include "csrc/comm/watchdog/heartbeat_monitor.h"
#include "launch/torchrun/pmi_relay.h"
#include "launch/torchrun/store_board.h"
#include "launch/torchrun/torch_environment.h"

namespace sutor {
namespace {

constexpr double kOthersLeaveSeconds = 10;
constexpr size_t kMostNamed = 8;
const char* const kLeft = "left";

std::string host_key(int rank) { return fmt::format("host/{}", rank); }

[[noreturn]] void fail_absent(Board& board, const TorchEnvironment& torch, double limit) {
  std::string names;
  size_t absent = 0;
  for (int rank = 0; rank < torch.world_size; ++rank) {
    if (board.get(host_key(rank))) continue;
    if (++absent <= kMostNamed) names += fmt::format("{}{}", names.empty() ? "" : ", ", rank);
  }
  fail(ErrorCode::kCommTimeout,
       "{} of the {} ranks have not come to {} within {:.0f} s (SUTOR_COMM_TIMEOUT): rank {}{}",
       absent, torch.world_size, torch.meeting_place(), limit, names,
       absent > kMostNamed ? ", ..." : "");
}

std::vector<std::string> hosts_of_all(Board& board, const TorchEnvironment& torch, double limit) {
  if (board.add(fmt::format("here/{}", torch.rank), 1) != 1) {
    fail(ErrorCode::kRanksApart,
         "another process is rank {} of the job that meets at {} already. Give each process a RANK "
         "of its own and each job a MASTER_PORT of its own",
         torch.rank, torch.meeting_place());
  }
  board.put(host_key(torch.rank), host_name());
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::string> hosts;
  for (int rank = 0; rank < torch.world_size; ++rank) {
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    const auto host = wait_for(board, host_key(rank), limit - waited.count());
    if (!host) fail_absent(board, torch, limit);
    hosts.push_back(*host);
  }
  return hosts;
}

class TorchRanks : public JoinedRanks {
 public:
  TorchRanks(const TorchEnvironment& torch, std::shared_ptr<Board> board, RelayedJob job)
      : keeps_store_(torch.rank == 0 && !torch.agent_store),
        size_(torch.world_size),
        board_(std::move(board)),
        relay_(std::make_unique<PmiRelay>(board_, std::move(job))) {}

  ~TorchRanks() override {
    relay_.reset();
    try {
      board_->add(kLeft, 1);
      const auto begin = std::chrono::steady_clock::now();
      while (keeps_store_ && board_->add(kLeft, 0) < size_) {
        const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
        if (waited.count() > kOthersLeaveSeconds) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    } catch (...) {
      // Whoever kept the store is gone: nobody waits for this rank.
    }
  }

  int mpi_end() const { return relay_->mpi_end(); }

 private:
  bool keeps_store_;
  int64_t size_;
  std::shared_ptr<Board> board_;
  std::unique_ptr<PmiRelay> relay_;
};

void set_variable(const char* name, int value) {
  ::setenv(name, std::to_string(value).c_str(), /*replace=*/1);
}

}  // namespace

std::unique_ptr<JoinedRanks> join_torch_ranks(const Environment& environment) {
  const auto torch = torch_environment(environment);
  if (!torch) return nullptr;
  const double limit = WatchLimits::from_environment().wait;
  const std::shared_ptr<Board> board = open_store_board(*torch, limit);
  const std::string mapping = process_mapping(hosts_of_all(*board, *torch, limit));
  auto ranks = std::make_unique<TorchRanks>(
      *torch, board, RelayedJob{torch->rank, torch->world_size, mapping, limit});
  set_variable("PMI_RANK", torch->rank);
  set_variable("PMI_SIZE", torch->world_size);
  set_variable("PMI_FD", ranks->mpi_end());
  // Those of a launcher above torchrun.
  for (const char* name : {"PMI_PORT", "PMI_ID", "PMI_SPAWNED", "HYDI_CONTROL_FD"})
    ::unsetenv(name);
  return ranks;
}

}  // namespace sutor
