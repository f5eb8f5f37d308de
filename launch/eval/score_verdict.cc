#include "launch/eval/score_verdict.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "csrc/base/error.h"
#include "layers/esft/expert_load.h"
#include "layers/esft/select_experts.h"

namespace sutor {
namespace {

constexpr size_t kNamed = 8;  // dead experts that are named
constexpr size_t kHottest = 3;
constexpr int kCoarse = 16;  // routed experts a layer, at most

SelectOptions by_scores(SelectOptions options) {
  if (options.method != "random" && options.method != "none") return options;
  return {.method = "token", .layers = options.layers};
}

ExpertScores second_half(const ExpertScores& all, const ExpertScores& first) {
  ExpertScores second = all;
  const std::span<const int64_t> taken = first.flat();
  for (size_t i = 0; i < taken.size(); ++i) second.flat()[i] -= taken[i];
  return second;
}

std::string named(const SelectOptions& options) {
  const SelectOptions used = by_scores(options);
  if (used.method == "top_n") return fmt::format("top_n, n {}", used.n.value_or(0));
  if (used.method == "budget") return fmt::format("budget {}", used.budget.value_or(0));
  return fmt::format("{}, top_p {}", used.method,
                     used.top_p.value_or(used.method == "gate" ? 0.1 : 0.2));
}

// Of all parameters, those of the experts that the recipe's selection would train.
struct Savings {
  int64_t experts = 0, all_experts = 0;
  int64_t parameters = 0, all_parameters = 0;
};

Savings savings_of(const ModelInfo& model, const Selection& selection) {
  Savings savings;
  std::set<std::pair<int, int>> chosen;
  for (const auto& [layer, ids] : selection.config.experts) {
    for (const int id : ids) chosen.emplace(layer, id);
  }
  savings.experts = static_cast<int64_t>(chosen.size());
  for (int layer = 0; layer < model.num_layers; ++layer) {
    if (model.is_moe(layer)) savings.all_experts += model.num_experts;
  }
  for (const TensorEntry& entry : model.tensors.entries()) {
    int64_t elements = 1;
    for (const int64_t size : entry.shape) elements *= size;
    savings.all_parameters += elements;
    if (entry.role == TensorRole::kRoutedExpert && chosen.count({entry.layer, entry.expert}) > 0) {
      savings.parameters += elements;
    }
  }
  return savings;
}

std::string coarse_warning(const Recipe& recipe, const ModelInfo& model,
                           const ExpertScores& scores) {
  Savings savings;
  try {
    savings = savings_of(model, select_experts(recipe.esft.select, scores.table()));
  } catch (const Error&) {
    return "";  // `select` says what of its options does not fit
  }
  return fmt::format(
      "warning[{}]: this model has {} large experts a layer: the selection ({}) would train {} of "
      "{} experts, {:.1f}% of all parameters. Choosing experts saves little there, and tells tasks "
      "apart less than in models of many small experts; `train.method: lora` with lora.targets: "
      "[experts], or a lower esft.select.top_p, trains less",
      WarningCode::kCoarseExperts, model.num_experts, named(recipe.esft.select), savings.experts,
      savings.all_experts,
      100 * static_cast<double>(savings.parameters) / static_cast<double>(savings.all_parameters));
}

}  // namespace

std::optional<HalfOverlap> half_overlap(const ExpertScores& scores, const ExpertScores& first_half,
                                        const SelectOptions& options) {
  const ExpertScores second = second_half(scores, first_half);
  HalfOverlap overlap{
      .worst = 2, .first_tokens = first_half.num_tokens(), .second_tokens = second.num_tokens()};
  if (overlap.first_tokens == 0 || overlap.second_tokens == 0) return {};
  std::map<int, std::vector<int>> one, other;
  try {
    one = select_experts(by_scores(options), first_half.table()).config.experts;
    other = select_experts(by_scores(options), second.table()).config.experts;
  } catch (const Error&) {
    return {};
  }
  size_t common = 0, both = 0;
  std::set<int> layers;
  for (const auto& [layer, ids] : one) layers.insert(layer);
  for (const auto& [layer, ids] : other) layers.insert(layer);
  for (const int layer : layers) {
    const std::set<int> a(one[layer].begin(), one[layer].end());
    size_t in_layer = 0;
    for (const int id : other[layer]) in_layer += a.count(id);
    const size_t of_layer = a.size() + other[layer].size();
    common += in_layer;
    both += of_layer;
    if (of_layer == 0) continue;
    const double share = 2 * static_cast<double>(in_layer) / static_cast<double>(of_layer);
    if (share >= overlap.worst) continue;
    overlap.worst = share;
    overlap.worst_layer = layer;
  }
  if (both == 0) return {};
  overlap.total = 2 * static_cast<double>(common) / static_cast<double>(both);
  return overlap;
}

std::string halves_line(const std::optional<HalfOverlap>& overlap, const SelectOptions& options) {
  if (!overlap) return "halves   the sample is too small for two halves that could be compared";
  return fmt::format(
      "halves   either half of the sample selects ({}) {:.0f}% of what the other does, least in "
      "layer {}: {:.0f}%",
      named(options), 100 * overlap->total, overlap->worst_layer, 100 * overlap->worst);
}

std::string dead_line(const ExpertScores& scores) {
  std::vector<std::string> names;
  size_t dead = 0;
  for (const int layer : scores.layers()) {
    for (const int expert : layer_load(scores, layer).dead) {
      if (dead++ < kNamed) names.push_back(fmt::format("L{}:e{}", layer, expert));
    }
  }
  const size_t all = scores.layers().size() * static_cast<size_t>(scores.num_experts());
  if (dead == 0) return fmt::format("dead     none of {} experts", all);
  return fmt::format("dead     {} of {} experts got no token: {}{}", dead, all,
                     fmt::join(names, " "),
                     dead > kNamed ? fmt::format(" and {} more", dead - kNamed) : "");
}

std::string hot_line(const ExpertScores& scores) {
  std::vector<LayerLoad> loads;
  for (const int layer : scores.layers()) loads.push_back(layer_load(scores, layer));
  std::stable_sort(loads.begin(), loads.end(), [](const LayerLoad& a, const LayerLoad& b) {
    return a.max_over_mean > b.max_over_mean;
  });
  loads.resize(std::min(loads.size(), kHottest));
  std::vector<std::string> names;
  for (const LayerLoad& load : loads) {
    names.push_back(fmt::format("L{}:e{} {:.1f}% ({:.1f} x the mean)", load.layer, load.busiest,
                                100 * scores.token_score(load.layer, load.busiest),
                                load.max_over_mean));
  }
  return fmt::format("hot      {}", fmt::join(names, ", "));
}

std::vector<std::string> score_warnings(const Recipe& recipe, const ModelInfo& model,
                                        const ExpertScores& scores,
                                        const std::optional<HalfOverlap>& overlap, int64_t tokens) {
  std::vector<std::string> warnings;
  if (overlap && overlap->total < kEnoughOverlap) {
    const bool all_used = recipe.esft.score.tokens < 0 || tokens < recipe.esft.score.tokens;
    warnings.push_back(fmt::format(
        "warning[{}]: the halves of the sample agree on {:.0f}% of the experts only, so that "
        "another sample of {} tokens would choose others. {}",
        WarningCode::kUnsureScores, 100 * overlap->total, tokens,
        all_used ? "All training data were scored: more rows would make it surer, or a higher "
                   "esft.select.top_p makes it matter less"
                 : fmt::format("Raise esft.score.tokens (now {})", recipe.esft.score.tokens)));
  }
  if (model.num_experts <= kCoarse && recipe.train.method == "esft" && !recipe.esft.config) {
    std::string warning = coarse_warning(recipe, model, scores);
    if (!warning.empty()) warnings.push_back(std::move(warning));
  }
  return warnings;
}

}  // namespace sutor
