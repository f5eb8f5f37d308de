#include "launch/job/stop_request.h"

namespace sutor {

int agreed_stop_signal(Comm& world) {
  int64_t signal = stop_signal();
  world.all_reduce(std::span(&signal, 1), ReduceOp::kMax, "stop request");
  return static_cast<int>(signal);
}

void leave_if_asked(Comm& world, const std::string& done) {
  if (const int signal = agreed_stop_signal(world); signal != 0) leave(signal, done);
}

void leave_if_asked(const std::string& done) {
  if (const int signal = Interruptible::signal(); signal != 0) leave(signal, done);
}

void leave(int signal, const std::string& done) {
  fail(ErrorCode::kStopped, "stopped by {}: {}", signal_name(signal), done);
}

}  // namespace sutor
