// Boundaries at which work ends when a signal asks for it (csrc/base/process/stop_signal.h): with
// E7500 and exit code 75, on all ranks, though only one of them may have got the signal.
#pragma once

#include <string>

#include "csrc/base/error.h"
#include "csrc/base/process/stop_signal.h"
#include "csrc/comm/comm.h"

namespace sutor {

// Collective: the number of the signal that asks any rank to stop; 0: none.
int agreed_stop_signal(Comm& world);

// Collective: throws E7500 on all ranks when a signal asks any of them to stop. done: a clause on
// what has been done, what is left, and how to go on.
void leave_if_asked(Comm& world, const std::string& done);

// The same for work that this process does alone, while an Interruptible lives.
void leave_if_asked(const std::string& done);

// Throws E7500: "stopped by SIGTERM: <done>".
[[noreturn]] void leave(int signal, const std::string& done);

}  // namespace sutor
