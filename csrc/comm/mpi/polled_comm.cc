#include "csrc/comm/mpi/polled_comm.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <chrono>

#include "csrc/base/error.h"
#include "csrc/comm/wait_limit.h"

namespace sutor {

PolledComm::PolledComm(MPI_Comm comm) : comm(comm) {
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
}

void PolledComm::check(int result, const char* name) const {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(result, text, &length);
  fail(ErrorCode::kMpiFailed, "MPI failed in `{}` on rank {}: {}", name, rank, text);
}

bool PolledComm::test(std::span<MPI_Request> requests, const char* name) const {
  int done = 0;
  check(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
        name);
  return done != 0;
}

void PolledComm::wait(std::span<MPI_Request> requests, const char* name) const {
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t tries = 0; !test(requests, name); ++tries) {
    if (tries < 50) {
      sched_yield();
      continue;
    }
    const timespec pause{0, 1000};
    nanosleep(&pause, nullptr);
    if (tries % 4096 == 0) {
      const std::chrono::duration<double> waited =
          std::chrono::steady_clock::now() - std::max(begin, last_job_progress.load());
      static const double limit = own_wait_limit_seconds();
      if (waited.count() > limit) {
        fail(ErrorCode::kCommTimeout,
             "rank {} of {} waited {:.0f} s in `{}` for the other ranks. One of them is stuck or "
             "gone (SUTOR_COMM_TIMEOUT sets the limit in seconds).",
             rank, size, waited.count(), name);
      }
    }
  }
}

}  // namespace sutor
