// How long a rank waits for others before the job gives up: SUTOR_COMM_TIMEOUT in seconds, or half
// an hour.
#pragma once

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

}  // namespace sutor
