#include "csrc/comm/fault.h"

#include <signal.h>

#include <cstdlib>

#include "csrc/base/error.h"

namespace sutor {

FaultPlan::FaultPlan(int world_rank) {
  const char* text = std::getenv("SUTOR_FAULT");
  if (text == nullptr || *text == '\0') return;
  std::string rest = text;
  int rank = -1;
  const auto take = [&] {
    const size_t colon = rest.find(':');
    const std::string part = rest.substr(0, colon);
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
    return part;
  };
  action_ = take();
  bool good = action_ == "kill" || action_ == "stop" || action_ == "throw";
  while (!rest.empty()) {
    const std::string part = take();
    if (part.starts_with("rank=")) {
      rank = std::atoi(part.c_str() + 5);
    } else if (part.starts_with("op=")) {
      operation_ = part.substr(3);
    } else if (part.starts_with("count=")) {
      left_ = std::atoi(part.c_str() + 6);
    } else {
      good = false;
    }
  }
  if (!good || rank < 0 || operation_.empty() || left_ < 1) {
    fail(ErrorCode::kBadFault,
         "SUTOR_FAULT should be kill|stop|throw:rank=R:op=NAME[:count=N], found `{}`", text);
  }
  mine_ = rank == world_rank;
}

void FaultPlan::act_if_it_is(const char* operation) const {
  if (operation_ != operation || left_.fetch_sub(1) != 1) return;
  if (action_ == "kill") ::raise(SIGKILL);
  if (action_ == "stop") ::raise(SIGSTOP);
  if (action_ == "throw") {
    fail(ErrorCode::kFaultThrown, "thrown in `{}`, as SUTOR_FAULT asks", operation);
  }
}

}  // namespace sutor
