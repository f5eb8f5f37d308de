// One operation of rank 0, which SUTOR_FAULT may not make fail.
#include "csrc/base/error.h"
#include "csrc/comm/fault.h"

int main() {
  try {
    const sutor::FaultPlan faults(0);
    faults.act("dispatch rows");
    fmt::print("done\n");
    return 0;
  } catch (const sutor::Error& error) {
    fmt::print("{}\n", error.report());
    return error.exit_code();
  }
}
