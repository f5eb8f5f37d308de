#include "csrc/ops/shapes/planned_routing.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace sutor::ops {
namespace {

RoutingShares shares_of_layers;
int64_t planned_layer = -1;
double attention_products = 0;

// [numbers]: where the share of each number ends, of 1.
std::vector<double> share_ends(int64_t numbers) {
  std::vector<double> ends(static_cast<size_t>(numbers), 1.0 / static_cast<double>(numbers));
  const auto found = shares_of_layers.find(static_cast<int>(planned_layer));
  if (found != shares_of_layers.end() && static_cast<int64_t>(found->second.size()) == numbers) {
    ends = found->second;
  }
  std::partial_sum(ends.begin(), ends.end(), ends.begin());
  return ends;
}

}  // namespace

void plan_routing(RoutingShares shares) { shares_of_layers = std::move(shares); }

PlannedLayer::PlannedLayer(int64_t layer) : before_(std::exchange(planned_layer, layer)) {}
PlannedLayer::~PlannedLayer() { planned_layer = before_; }

std::vector<int64_t> planned_counts(int64_t choices, int64_t numbers) {
  std::vector<int64_t> counts;
  int64_t before = 0;
  for (const double end : share_ends(numbers)) {
    const int64_t upto =
        std::clamp<int64_t>(std::llround(end * static_cast<double>(choices)), before, choices);
    counts.push_back(upto - before);
    before = upto;
  }
  if (!counts.empty()) counts.back() += choices - before;
  return counts;
}

// A sequence of low discrepancy: multiples of the golden ratio, whose fractions fill [0, 1) evenly.
std::vector<int64_t> planned_choices(int64_t choices, int64_t numbers) {
  constexpr double kGolden = 0.6180339887498949;
  const std::vector<double> ends = share_ends(numbers);
  std::vector<int64_t> result;
  for (int64_t i = 0; i < choices; ++i) {
    double whole;
    const double at = std::modf((static_cast<double>(i) + 0.5) * kGolden, &whole);
    const auto end = std::upper_bound(ends.begin(), ends.end(), at);
    result.push_back(std::min<int64_t>(end - ends.begin(), numbers - 1));
  }
  return result;
}

double take_attention_products() { return std::exchange(attention_products, 0); }
void add_attention_products(double products) { attention_products += products; }

at::Device table_device(at::Device device) {
  return device.is_meta() ? at::Device(at::kCPU) : device;
}

}  // namespace sutor::ops
