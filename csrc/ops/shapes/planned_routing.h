// The routing of a dry run. Tensors without values (csrc/ops/device/memory.h) cannot say how many
// rows each expert gets; whoever makes the dry run says it here, for each layer, and the operators
// that sort rows read it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

namespace sutor::ops {

// The share of a layer's choices that each expert gets, [experts], adding up to 1. A layer that is
// missing is level.
using RoutingShares = std::map<int, std::vector<double>>;

// For the dry runs of this process until the next call. One thread makes dry runs.
void plan_routing(RoutingShares shares);

// The layer that is dispatching; does nothing but remember it.
class PlannedLayer {
 public:
  explicit PlannedLayer(int64_t layer);
  ~PlannedLayer();
  PlannedLayer(const PlannedLayer&) = delete;
  PlannedLayer& operator=(const PlannedLayer&) = delete;

 private:
  int64_t before_;
};

// How often each of `numbers` numbers is among `choices` choices at the planned layer, adding up to
// them; level where the layer's shares are of another count.
std::vector<int64_t> planned_counts(int64_t choices, int64_t numbers);
// Choices in such numbers, mixed so that every run of them has nearly the same shares.
std::vector<int64_t> planned_choices(int64_t choices, int64_t numbers);

// Multiply-adds of scores and values that the attention of dry runs met, forward and backward,
// since the last call.
double take_attention_products();
void add_attention_products(double products);

// Where a table lies that decides shapes, of tensors on `device`: the CPU for those without values.
at::Device table_device(at::Device device);

}  // namespace sutor::ops
