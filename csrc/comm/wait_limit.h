// How long a rank waits for others before the job gives up: SUTOR_COMM_TIMEOUT in seconds, or half
// an hour.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>

namespace sutor {

inline double wait_limit_seconds() {
  const char* text = std::getenv("SUTOR_COMM_TIMEOUT");
  const double seconds = text ? std::atof(text) : 0;
  return seconds > 0 ? seconds : 1800;
}

// A watchdog that runs says more about a long wait, and earlier: it has this much time before the
// rank itself gives up.
inline double own_wait_limit_seconds() { return wait_limit_seconds() + 15; }

// When some rank of the job was last seen to come forward; the watchdog says so. From then on a
// wait begins anew: a rank that reads a large model, or tokenizes, is neither stuck nor gone.
inline std::atomic<std::chrono::steady_clock::time_point> last_job_progress{};

// `notes`: the progress of all ranks together (base/process/progress.h).
inline void note_job_progress(uint64_t notes) {
  static std::atomic<uint64_t> known{0};
  if (known.exchange(notes) != notes) last_job_progress = std::chrono::steady_clock::now();
}

}  // namespace sutor
