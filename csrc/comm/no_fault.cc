// The place of fault.cc in builds without fault injection (SUTOR_FAULTS=OFF, as the preset release
// has it): nothing fails on request, and a request is refused rather than passed over.
#include <cstdlib>

#include "csrc/base/error.h"
#include "csrc/comm/fault.h"

namespace sutor {

FaultPlan::FaultPlan(int) {
  const char* text = std::getenv("SUTOR_FAULT");
  if (text == nullptr || *text == '\0') return;
  fail(ErrorCode::kNoFaults,
       "SUTOR_FAULT is set (`{}`), but this sutor was built without fault injection. Unset it, or "
       "configure with -DSUTOR_FAULTS=ON.",
       text);
}

void FaultPlan::act_if_it_is(const char*) const {}  // never called: no rank is chosen

}  // namespace sutor
