// Which process a rank is, and what another process on the same host can learn of it.
#pragma once

#include <cstdint>
#include <string>

namespace sutor {

struct ProcessIdentity {
  std::string host;
  std::string space;    // kernel and process id namespace: equal = process ids mean the same
  std::string network;  // kernel and network namespace: equal = loopback reaches it
  int64_t pid = 0;
  int64_t start_time = 0;  // in clock ticks since the kernel's start: told apart from a later pid

  static ProcessIdentity of_this_process();
};

// One letter as in /proc (R, S, T = stopped ...); '\0' when the process is gone or was never here.
char process_state(const ProcessIdentity& process);

// SIGKILL, when this process is on the same host and still there.
void kill_process(const ProcessIdentity& process);

}  // namespace sutor
