// The fault plan of the tests themselves.
#include "csrc/comm/fault.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using testing::expect_error;

class Fault : public ::testing::Test {
 protected:
  ~Fault() override { ::unsetenv("SUTOR_FAULT"); }
  static FaultPlan plan(const char* text, int rank) {
    ::setenv("SUTOR_FAULT", text, 1);
    return FaultPlan(rank);
  }
};

TEST_F(Fault, ThrowsAtTheCountedOperationOfItsRankOnce) {
  const FaultPlan faults(plan("throw:rank=1:op=dispatch rows:count=2", 1));
  faults.act("dispatch rows");
  faults.act("combine rows");
  expect_error(ErrorCode::kFaultThrown, {"`dispatch rows`", "SUTOR_FAULT"},
               [&] { faults.act("dispatch rows"); });
  faults.act("dispatch rows");
}

TEST_F(Fault, OtherRanksAreLeftAlone) {
  const FaultPlan faults(plan("throw:rank=1:op=x", 0));
  faults.act("x");
}

TEST_F(Fault, AMalformedPlanIsRefused) {
  for (const char* text : {"burn:rank=0:op=x", "kill:rank=0", "kill:op=x", "kill:rank=0:op=x:y=1",
                           "kill:rank=0:op=x:count=0"}) {
    expect_error(ErrorCode::kBadFault, {"kill|stop|throw", text}, [&] { plan(text, 0); });
  }
}

}  // namespace
}  // namespace sutor
