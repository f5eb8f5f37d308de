// Counts of numbers beside a loop.
#include "csrc/ops/number_counts.h"

#include <vector>

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct Case {
  const char* name;
  std::vector<int64_t> sizes;
  int64_t count, last;  // numbers up to `last` of `count`
};

const Case kCases[] = {{"NoNumbers", {0, 2}, 3, 2},
                       {"OneNumber", {1}, 1, 0},
                       {"OddSizes", {13, 3}, 7, 6},
                       {"SomeNeverStand", {100}, 9, 3},
                       {"AllAreTheSame", {40, 2}, 5, 0}};

using NumberCountsTest = OperatorTest<Case>;

TEST_P(NumberCountsTest, AreThoseOfALoop) {
  const Case& c = std::get<1>(GetParam());
  const at::Tensor number = random_below(c.last + 1, c.sizes, 3);
  std::vector<int64_t> wanted(static_cast<size_t>(c.count), 0);
  for (int64_t i = 0; i < number.numel(); ++i) ++wanted[number.view({-1})[i].item<int64_t>()];
  const at::Tensor there = moved(number);
  const at::Tensor counts = without_host_reads([&] { return number_counts(there, c.count); });
  expect_same_bits(counts, longs(wanted), "counts");
}

INSTANTIATE_TEST_SUITE_P(Ops, NumberCountsTest, on_all_devices(kCases), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
