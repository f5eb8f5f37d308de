// Ranks on unequal CPUs are told so, and what to do.
#include "launch/job/kernel_agreement.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace sutor {
namespace {

TEST(KernelAgreement, EqualOnesAreLetPassAndUnequalOnesNamedWithTheLowest) {
  check_same_kernels({"x86-64-v4"});
  check_same_kernels({"x86-64-v3", "x86-64-v3", "x86-64-v3"});
  testing::expect_error(
      ErrorCode::kKernelsDiffer,
      {"x86-64-v3 (ranks 1)", "x86-64-v4 (ranks 0, 2)", "SUTOR_KERNELS=x86-64-v3"}, [] {
        check_same_kernels({"x86-64-v4", "x86-64-v3", "x86-64-v4"});
      });
}

}  // namespace
}  // namespace sutor
