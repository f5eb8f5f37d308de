#include "launch/train/watch/routing_counter.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "csrc/base/profile.h"
#include "csrc/ops/number_counts.h"

namespace sutor {
namespace {

std::vector<int> moe_layers(const ModelInfo& model) {
  std::vector<int> layers;
  for (int layer = 0; layer < model.num_layers; ++layer) {
    if (model.is_moe(layer)) layers.push_back(layer);
  }
  return layers;
}

}  // namespace

RoutingCounter::RoutingCounter(const ModelInfo& model, at::Device device)
    : scores_(moe_layers(model), model.num_experts, model.top_k),
      values_(at::zeros({static_cast<int64_t>(scores_.layers().size()), 2 * model.num_experts + 1},
                        at::TensorOptions().dtype(at::kLong).device(device))),
      tokens_(scores_.layers().size(), 0) {}

void RoutingCounter::add(int layer, const at::Tensor& topk_idx, const at::Tensor& unscaled) {
  const ProfileScope scope("counts of routed tokens");
  const at::NoGradGuard no_grad;
  const std::vector<int>& layers = scores_.layers();
  const auto index = std::lower_bound(layers.begin(), layers.end(), layer) - layers.begin();
  const int64_t experts = scores_.num_experts();
  const at::Tensor row = values_[index];
  row.narrow(0, 0, experts).add_(ops::number_counts(topk_idx, experts));
  // As ExpertScores::add(), so that live shares and those of scores are of the same numbers.
  const double unit = static_cast<double>(int64_t{1} << ExpertScores::kGateFractionBits);
  const at::Tensor units = (unscaled.to(at::kDouble) * unit).round_().to(at::kLong);
  row.narrow(0, experts, experts).scatter_add_(0, topk_idx.reshape({-1}), units.reshape({-1}));
  tokens_[static_cast<size_t>(index)] += topk_idx.size(0);
}

ExpertScores RoutingCounter::take(Comm& world) {
  ExpertScores result = scores_;
  const at::Tensor host = values_.cpu().contiguous();
  const std::span<int64_t> flat = result.flat();
  std::copy_n(host.data_ptr<int64_t>(), flat.size(), flat.begin());
  const size_t block = 2 * static_cast<size_t>(scores_.num_experts()) + 1;
  for (size_t i = 0; i < tokens_.size(); ++i) flat[(i + 1) * block - 1] = tokens_[i];
  world.all_reduce(flat, ReduceOp::kSum, "counts of routed tokens");
  values_.zero_();
  std::fill(tokens_.begin(), tokens_.end(), 0);
  return result;
}

}  // namespace sutor
