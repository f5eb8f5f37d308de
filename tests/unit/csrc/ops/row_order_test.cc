// The order of routed rows beside a stable sort.
#include "csrc/ops/row_order.h"

#include <algorithm>
#include <numeric>

#include "tests/support/op_devices.h"

namespace sutor::ops {
namespace {

using namespace testing;  // NOLINT: sutor::testing

struct Case {
  const char* name;
  int64_t tokens, top_k;
  std::vector<int64_t> slot_of_number;
  int64_t slots;
  int64_t last_number = -1;  // choices are of the numbers up to this one; -1: of all
};

std::vector<int64_t> reversed(int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.rbegin(), numbers.rend(), 0);
  return numbers;
}

const Case kCases[] = {
    {"NoTokens", 0, 2, {1, 0, 2}, 3},           {"OneToken", 1, 3, {3, 2, 1, 0}, 4},
    {"OneChoiceEach", 13, 1, {1, 2, 0}, 3},     {"AllInOneSlot", 40, 2, {2, 0, 1}, 3, 0},
    {"ManyToASlot", 40, 3, {1, 3, 1, 0, 3}, 4}, {"SlotsWithoutRows", 5, 2, {6, 3, 9}, 11},
    {"Many", 4001, 6, reversed(67), 67},
};

class RowOrderTest : public OperatorTest<Case> {};

TEST_P(RowOrderTest, IsAStableSortBySlotWithItsInverse) {
  const Case& c = std::get<1>(GetParam());
  const int64_t numbers =
      c.last_number >= 0 ? c.last_number + 1 : static_cast<int64_t>(c.slot_of_number.size());
  const at::Tensor number = random_below(numbers, {c.tokens, c.top_k}, 1);
  std::vector<int64_t> slot, choices(static_cast<size_t>(number.numel()));
  for (int64_t i = 0; i < number.numel(); ++i) {
    slot.push_back(c.slot_of_number[static_cast<size_t>(number.data_ptr<int64_t>()[i])]);
  }
  std::iota(choices.begin(), choices.end(), 0);
  std::stable_sort(choices.begin(), choices.end(),
                   [&](int64_t a, int64_t b) { return slot[a] < slot[b]; });
  std::vector<int64_t> position(choices.size()), offsets(static_cast<size_t>(c.slots + 1));
  for (size_t r = 0; r < choices.size(); ++r) {
    position[static_cast<size_t>(choices[r])] = static_cast<int64_t>(r);
  }
  for (int64_t s = 0; s <= c.slots; ++s) {
    offsets[s] = std::count_if(slot.begin(), slot.end(), [&](int64_t of) { return of < s; });
  }

  const at::Tensor on_number = moved(number), on_slots = moved(longs(c.slot_of_number));
  const RowOrder ours =
      without_host_reads([&] { return order_by_slot(on_number, on_slots, c.slots); });
  EXPECT_EQ(ours.offsets.device(), on_number.device());
  expect_same_bits(ours.position, longs(position), "position");
  expect_same_bits(ours.choice_R, longs(choices), "choice_R");
  expect_same_bits(ours.offsets, longs(offsets), "offsets");
}

INSTANTIATE_TEST_SUITE_P(Ops, RowOrderTest, on_all_devices(kCases), NamesOfParams());

}  // namespace
}  // namespace sutor::ops
