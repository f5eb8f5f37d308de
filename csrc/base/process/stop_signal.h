// Signals that ask this process to stop: SIGTERM, SIGINT, SIGUSR1, SIGUSR2. The first one is noted
// only, and the work ends at its next boundary (launch/job/stop_request.h); a second one ends the
// process at once, with exit code 128 + its number.
#pragma once

#include <sys/types.h>

namespace sutor {

// From now on these signals are noted. For work that comes to boundaries; without this call they
// end the process, as they do by default. A SIGINT that is ignored at the start (a job in the
// background of a shell) stays ignored. `speaks`: says on stderr that the first one has come.
void note_stop_signals(bool speaks);

// The number of the signal that asks this process to stop; 0: none.
int stop_signal();

// "SIGTERM"
const char* signal_name(int number);

// A child process that a second signal ends, too; 0: none.
void set_child_to_end(pid_t child);

// While such an object lives, this process may end its work on its own: where tasks are shared out
// (csrc/base/parallel.h) a signal throws E7500. Not for work that ranks do in step.
class Interruptible {
 public:
  Interruptible();
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

  // A signal that may end this work now; 0: none.
  static int signal();
};

}  // namespace sutor
