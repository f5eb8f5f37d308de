// Counts and fixed-point gate sums per layer and expert.
#include "layers/esft/expert_scores.h"

#include <algorithm>
#include <cmath>

#include "csrc/base/error.h"

namespace sutor {

namespace {
constexpr double kGateUnit = 1.0 / (int64_t{1} << ExpertScores::kGateFractionBits);
constexpr float kMaxWeight = 1.01F;
}  // namespace

ExpertScores::ExpertScores(std::vector<int> layers, int num_experts, int top_k)
    : layers_(std::move(layers)), num_experts_(num_experts), top_k_(top_k) {
  SUTOR_ASSERT(std::is_sorted(layers_.begin(), layers_.end()));
  SUTOR_ASSERT(num_experts > 0 && top_k > 0);
  values_.resize(layers_.size() * block(), 0);
}

size_t ExpertScores::offset(int layer) const {
  const auto it = std::lower_bound(layers_.begin(), layers_.end(), layer);
  if (it == layers_.end() || *it != layer) {
    fail(ErrorCode::kIncompleteScores, "there are no scores of layer {}; scored layers: {}.", layer,
         fmt::join(layers_, ", "));
  }
  return static_cast<size_t>(it - layers_.begin()) * block();
}

void ExpertScores::add(int layer, std::span<const int64_t> topk_idx,
                       std::span<const float> topk_weights, int k) {
  SUTOR_ASSERT(k == top_k_ && topk_idx.size() == topk_weights.size());
  SUTOR_ASSERT(topk_idx.size() % static_cast<size_t>(k) == 0);
  int64_t* counts = values_.data() + offset(layer);
  int64_t* gate_sums = counts + num_experts_;
  for (size_t i = 0; i < topk_idx.size(); ++i) {
    const int64_t expert = topk_idx[i];
    const float weight = topk_weights[i];
    if (expert < 0 || expert >= num_experts_) {
      fail(ErrorCode::kBadRouting,
           "layer {}, token {}: the router chose expert {}, but there are experts 0 to {}.", layer,
           i / k, expert, num_experts_ - 1);
    }
    if (!(weight >= 0 && weight <= kMaxWeight)) {
      fail(ErrorCode::kBadRouting,
           "layer {}, token {}: expert {} has routing weight {}, which is not between 0 and 1. Are "
           "the "
           "model's weights finite?",
           layer, i / k, expert, weight);
    }
    counts[expert] += 1;
    gate_sums[expert] += std::llrint(std::ldexp(static_cast<double>(weight), kGateFractionBits));
  }
  gate_sums[num_experts_] += static_cast<int64_t>(topk_idx.size()) / k;
}

void ExpertScores::merge(const ExpertScores& other) {
  if (layers_ != other.layers_ || num_experts_ != other.num_experts_ || top_k_ != other.top_k_) {
    fail(ErrorCode::kOtherScores,
         "scores of different shapes cannot be added: {} layers x {} experts, top-{}, and {} "
         "layers x "
         "{} experts, top-{}.",
         layers_.size(), num_experts_, top_k_, other.layers_.size(), other.num_experts_,
         other.top_k_);
  }
  for (size_t i = 0; i < values_.size(); ++i) values_[i] += other.values_[i];
}

std::span<const int64_t> ExpertScores::counts(int layer) const {
  return {values_.data() + offset(layer), static_cast<size_t>(num_experts_)};
}

std::span<const int64_t> ExpertScores::gate_sums(int layer) const {
  return {values_.data() + offset(layer) + num_experts_, static_cast<size_t>(num_experts_)};
}

int64_t ExpertScores::num_tokens(int layer) const {
  return values_[offset(layer) + 2 * static_cast<size_t>(num_experts_)];
}

int64_t ExpertScores::num_tokens() const {
  return layers_.empty() ? 0 : num_tokens(layers_.front());
}

double ExpertScores::token_score(int layer, int expert) const {
  const int64_t selections = num_tokens(layer) * top_k_;
  if (selections == 0) return 0;
  return static_cast<double>(counts(layer)[expert]) / static_cast<double>(selections);
}

double ExpertScores::gate_score(int layer, int expert) const {
  const int64_t tokens = num_tokens(layer);
  if (tokens == 0) return 0;
  return static_cast<double>(gate_sums(layer)[expert]) * kGateUnit / static_cast<double>(tokens);
}

ScoreTable ExpertScores::table() const {
  ScoreTable table;
  table.num_experts = num_experts_;
  table.num_tokens = num_tokens();
  for (int layer : layers_) {
    for (int expert = 0; expert < num_experts_; ++expert) {
      table.token[layer].push_back(token_score(layer, expert));
      table.gate[layer].push_back(gate_score(layer, expert));
    }
  }
  return table;
}

void ExpertScores::set_layer(int layer, std::span<const int64_t> counts,
                             std::span<const int64_t> gate_sums, int64_t num_tokens) {
  const auto experts = static_cast<size_t>(num_experts_);
  SUTOR_ASSERT(counts.size() == experts && gate_sums.size() == experts);
  int64_t* values = values_.data() + offset(layer);
  std::copy(counts.begin(), counts.end(), values);
  std::copy(gate_sums.begin(), gate_sums.end(), values + experts);
  values[2 * experts] = num_tokens;
}

}  // namespace sutor
