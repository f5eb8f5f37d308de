#include "launch/plan/planned_shares.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "csrc/base/directory.h"
#include "launch/log/run_paths.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace {

// What the experts of a rank get at random, over a level share, where no scores tell.
constexpr double kUnknownSkew = 1.1;
constexpr double kMostAlike = 64;  // halves of small untrained models show up to 40

// By how many standard deviations the largest of so many draws is above the mean.
double deviations_of_largest(double draws) { return std::sqrt(2 * std::log(std::max(4.0, draws))); }

// Raises the share of `group`, `skew` times, by `deviations` of what it is in micro-batches that
// make so many independent choices.
void raise_shares(std::vector<double>& shares, const std::vector<bool>& group, double choices,
                  double deviations, double skew = 1) {
  double share = 0;
  for (size_t e = 0; e < shares.size(); ++e) share += group[e] ? shares[e] : 0;
  if (share <= 0 || share >= 1 || choices <= 0) return;
  const double most =
      std::min(1.0, skew * share + deviations * std::sqrt(share * (1 - share) / choices));
  for (size_t e = 0; e < shares.size(); ++e) {
    shares[e] *= group[e] ? most / share : (1 - most) / (1 - share);
  }
}

}  // namespace

ScoredRouting scored_routing(const Recipe& recipe, const ModelInfo& model) {
  const RunPaths paths(recipe.output);
  ScoredRouting scored;
  if (!is_there(paths.scores())) return scored;
  const StoredScores stored = read_scores(paths.scores());
  for (const auto& [layer, share] : stored.scores.table().token) {
    if (model.is_moe(layer) && static_cast<int>(share.size()) == model.num_experts) {
      scored.shares[layer] = share;
    }
  }
  if (stored.first_half) {
    scored.tokens_alike = tokens_alike(stored.scores, *stored.first_half);
  }
  return scored;
}

double tokens_alike(const ExpertScores& all, const ExpertScores& first_half) {
  double sum = 0;
  int64_t counted = 0;
  for (const int layer : all.layers()) {
    const auto tokens = static_cast<double>(all.num_tokens(layer));
    const auto first_tokens = static_cast<double>(first_half.num_tokens(layer));
    const double second_tokens = tokens - first_tokens;
    if (first_tokens <= 0 || second_tokens <= 0) continue;
    const double choices = tokens * all.top_k(), first_choices = first_tokens * all.top_k();
    for (int e = 0; e < all.num_experts(); ++e) {
      const auto count = static_cast<double>(all.counts(layer)[static_cast<size_t>(e)]);
      const auto first = static_cast<double>(first_half.counts(layer)[static_cast<size_t>(e)]);
      const double share = count / choices;
      if (share <= 0 || share >= 1) continue;
      const double difference = first / first_choices - (count - first) / (choices - first_choices);
      const double alone = share * (1 - share) * (1 / first_tokens + 1 / second_tokens);
      sum += difference * difference / alone;
      ++counted;
    }
  }
  return counted == 0 ? 1 : std::clamp(sum / static_cast<double>(counted), 1.0, kMostAlike);
}

ops::RoutingShares shares_at_most(const PlannedRank& rank, int64_t tokens,
                                  const ops::RoutingShares& shares, const ScoredRouting& scored) {
  const ModelInfo& model = rank.plan.model;
  if (model.num_experts == 0) return {};
  const ParallelOptions& parallel = rank.recipe.parallel;
  const ExpertPlacement placement(model.num_experts, parallel, rank.world, rank.expert_ranks);
  const RankLayout layout(parallel, rank.world);
  const int ep = layout.coordinates(rank.rank).ep;
  const auto experts = static_cast<size_t>(model.num_experts);
  const double choices = static_cast<double>(tokens) * placement.ep() /
                         (layout.tp() * layout.cp()) / scored.tokens_alike;
  std::vector<int> layers;
  for (int layer = 0; layer < model.num_layers; ++layer) {
    if (model.is_moe(layer)) layers.push_back(layer);
  }
  // Layers differ each in its own way. Where all of them keep their rows for the backward pass, the
  // sum of what they keep varies less; the last layer, whose backward pass comes first, may be any.
  // Where each layer is recomputed, the largest of all layers counts.
  const bool keeps_all = rank.recipe.train.recompute != "layer";
  const auto count = static_cast<double>(layers.size());
  const double of_sum = keeps_all ? 1 / std::sqrt(count) : 1;
  const int groups = rank.world / layout.pp() / placement.ep();  // that choose apart
  const double largest =
      deviations_of_largest(static_cast<double>(rank.batches) * groups * (keeps_all ? 1 : count));
  ops::RoutingShares result;
  for (const int layer : layers) {
    const auto known = shares.find(layer);
    std::vector<double>& of_layer = result[layer];
    of_layer = known != shares.end() ? known->second
                                     : std::vector<double>(experts, 1.0 / model.num_experts);
    std::vector<bool> own(experts), trained(experts);
    for (size_t e = 0; e < experts; ++e) {
      own[e] = placement.ep_rank_of(layer, static_cast<int>(e)) == ep;
    }
    const auto trains = rank.plan.trainable.experts().find(layer);
    if (trains != rank.plan.trainable.experts().end()) {
      for (const int id : trains->second) {
        trained[static_cast<size_t>(id)] = own[static_cast<size_t>(id)];
      }
    }
    const bool some = trained != own && std::count(trained.begin(), trained.end(), true) > 0;
    // The largest of a rank's experts and of the trained ones among them are not met at once.
    const double both = some && keeps_all && placement.ep() > 1 ? 0.75 : 1;
    const double deviations = both * largest * (layer == layers.back() ? 1 : of_sum);
    raise_shares(of_layer, own, choices, deviations, scored.shares.empty() ? kUnknownSkew : 1);
    if (some) raise_shares(of_layer, trained, choices, deviations);
  }
  return result;
}

}  // namespace sutor
