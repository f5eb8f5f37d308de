// The world's beginning and end over MPI: start, failure, the last call.
#include <fmt/core.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>

#include <chrono>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "csrc/base/crash_report.h"
#include "csrc/base/error.h"
#include "csrc/comm/mpi/mpi_comm.h"
#include "csrc/comm/watchdog/exit_report.h"
#include "csrc/comm/watchdog/start_guard.h"

namespace sutor {
namespace {

// What MPICH over UCX asks for when it starts, for two ranks and more; most of it is never touched.
constexpr int64_t kAddressSpaceOfMpi = int64_t{256} << 20;

// With -disable-auto-cleanup hydra sends SIGUSR1 to the others when a rank has died, which would
// end them before they can say so. (A program that notes such signals is left as it is.)
void ignore_hydras_signal() {
  struct sigaction now {};
  sigaction(SIGUSR1, nullptr, &now);
  if (now.sa_handler != SIG_DFL) return;
  now.sa_handler = [](int) {};
  now.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &now, nullptr);
}

// Refuses a start that would crash in MPI or one of its libraries, which do not check that they got
// their memory.
void require_address_space() {
  const int64_t left = address_space_left();
  if (left < 0 || left >= kAddressSpaceOfMpi) return;
  fail(ErrorCode::kOutOfMemory,
       "out of memory: the start of MPI wants {} MB of address space, {} MB are left below the "
       "limit "
       "(`ulimit -v`). Raise the limit, or run without it",
       kAddressSpaceOfMpi >> 20, left >> 20);
}

bool started_by_hydra() {
  return std::getenv("HYDI_CONTROL_FD") != nullptr && std::getenv("PMI_FD") != nullptr;
}

// After a signal that it passed on, hydra 4.0 returns 0 in a quarter of the jobs whose processes
// all end with another code. It never loses the code of a PMI abort, which this is; MPI_Abort would
// say something of its own, too.
[[noreturn]] void end_hydras_job(int exit_code) {
  const std::string line = fmt::format("cmd=abort exitcode={}\n", exit_code);
  ::send(std::atoi(std::getenv("PMI_FD")), line.data(), line.size(), MSG_NOSIGNAL);
  std::this_thread::sleep_for(std::chrono::seconds(2));  // it ends this process before
  end_process(exit_code);
}

void start_mpi() {
  require_address_space();
  set_start_phase("the start of MPI");
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  set_start_phase(nullptr);
  restore_crash_report();
}

}  // namespace

std::unique_ptr<Comm> make_world_comm() {
  const char* size = std::getenv("PMI_SIZE");
  if (size == nullptr || std::atoi(size) <= 1) return make_self_comm();
  StartGuard guard(WatchLimits::from_environment());
  start_mpi();
  guard.all_started();
  ignore_hydras_signal();
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm failures;
  MPI_Comm_dup(MPI_COMM_WORLD, &failures);
  MPI_Comm_set_errhandler(failures, MPI_ERRORS_RETURN);
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  std::vector<int> all(static_cast<size_t>(ranks));
  std::iota(all.begin(), all.end(), 0);
  auto world = std::make_unique<MpiComm>(MPI_COMM_WORLD, "world", std::move(all),
                                         std::make_shared<Journal>(rank), failures);
  world->start_watchdog();
  return world;
}

void MpiComm::start_watchdog() { watchdog_ = Watchdog::start(*this, *journal_); }

bool MpiComm::all_failed(int exit_code, double seconds) {
  if (watchdog_) watchdog_->failing(exit_code);
  if (failures_ == MPI_COMM_NULL) return false;
  MPI_Request request;
  if (MPI_Ibarrier(failures_, &request) != MPI_SUCCESS) return false;
  const auto begin = std::chrono::steady_clock::now();
  for (int done = 0; !done;) {
    if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    if (!done && waited.count() > seconds) return false;
    sched_yield();
  }
  return true;
}

void MpiComm::finish(int exit_code) {
  if (watchdog_) watchdog_->failing(0);
  const bool by_abort = exit_code == kExitStopped && started_by_hydra();
  if (by_abort) wait_until_forwarded();
  barrier("finish");
  journal_->write_if_asked();
  if (by_abort) {
    if (watchdog_) watchdog_->deregister();
    end_hydras_job(exit_code);
  }
  if (watchdog_) watchdog_->finalizing(exit_code);
  MPI_Finalize();
  if (watchdog_) watchdog_->deregister();
}

void MpiComm::abort(int exit_code) {
  if (watchdog_) watchdog_->aborting(exit_code);
  wait_until_forwarded();  // hydra loses what it reads while it kills
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

}  // namespace sutor
