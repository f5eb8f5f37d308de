// Selection of the experts to train.
#include "layers/esft/select_experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "csrc/base/error.h"
#include "csrc/base/random.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace {

using LayerScores = std::map<int, std::vector<double>>;

// Ids by descending score; equal scores keep the order of the ids.
std::vector<int> by_score(const std::vector<double>& scores) {
  std::vector<int> ids(scores.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int a, int b) { return scores[a] > scores[b]; });
  return ids;
}

// The fewest best experts whose scores add up to top_p. The order and precision of the sum are
// those of the authors' Python, so that it stops at the same expert.
std::vector<int> take_top_p(const std::vector<double>& scores, double top_p, int at_least) {
  std::vector<int> chosen;
  double sum = 0;
  for (int id : by_score(scores)) {
    if (sum >= top_p && static_cast<int>(chosen.size()) >= at_least) break;
    chosen.push_back(id);
    sum += scores[id];
  }
  return chosen;
}

// Steele, Lea & Flood: Fast Splittable Pseudorandom Number Generators (2014).
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t next() { return mix64(state_ += kGolden64); }
  // Below m; the bias of m / 2^64 does not matter for a few hundred experts.
  int below(int m) {
    return static_cast<int>((static_cast<unsigned __int128>(next()) * static_cast<unsigned>(m)) >>
                            64);
  }

 private:
  uint64_t state_;
};

std::vector<int> draw(int num_experts, int n, uint64_t seed, int layer) {
  SplitMix64 random(seed + kGolden64 * static_cast<uint64_t>(layer + 1));
  std::vector<int> ids(num_experts);
  std::iota(ids.begin(), ids.end(), 0);
  for (int i = 0; i < n; ++i) std::swap(ids[i], ids[i + random.below(num_experts - i)]);
  ids.resize(n);
  return ids;
}

LayerScores rounded_scores(const SelectOptions& options, const ScoreTable& table) {
  if (options.rank_by != "token" && options.rank_by != "gate") {
    fail(ErrorCode::kBadSelection, "unknown score `{}` in rank_by; known: token, gate.",
         options.rank_by);
  }
  const bool ranked = options.method == "top_n" || options.method == "budget";
  const bool gate = options.method == "gate" || (ranked && options.rank_by == "gate");
  const LayerScores& source = gate ? table.gate : table.token;
  if (source.empty()) {
    if (gate && !table.no_gate.empty()) {
      fail(ErrorCode::kIncompleteScores,
           "the gate scores, which method {} needs, cannot be used: {}. Token scores can: choose a "
           "method that ranks by them.",
           options.method, table.no_gate);
    }
    fail(ErrorCode::kIncompleteScores,
         "the scores have no {} scores, which method {} needs. Score again, or choose another "
         "method.",
         gate ? "gate" : "token", options.method);
  }
  LayerScores result;
  for (const auto& [layer, values] : source) {
    if (options.layers && std::count(options.layers->begin(), options.layers->end(), layer) == 0) {
      continue;
    }
    double sum = 0;
    for (double value : values) {
      result[layer].push_back(round4(value));
      sum += value;
    }
    if (sum <= 0) {
      fail(ErrorCode::kIncompleteScores,
           "layer {} has no scores above 0: no token was routed there.", layer);
    }
  }
  if (options.layers) {
    for (int layer : *options.layers) {
      if (source.count(layer)) continue;
      if (std::count(table.empty_layers.begin(), table.empty_layers.end(), layer)) {
        fail(ErrorCode::kIncompleteScores,
             "layer {} was asked for, but has only zeros: no token was routed there.", layer);
      }
      fail(ErrorCode::kIncompleteScores,
           "there are no scores of layer {}; the scored layers are {} to {}.", layer,
           source.begin()->first, source.rbegin()->first);
    }
  }
  return result;
}

double check_top_p(const SelectOptions& options) {
  const double top_p = options.top_p.value_or(options.method == "gate" ? 0.1 : 0.2);
  if (!(top_p > 0 && top_p <= 1)) {
    fail(ErrorCode::kBadSelection, "top_p is {}, but must be above 0 and at most 1.", top_p);
  }
  return top_p;
}

int check_n(const SelectOptions& options, int num_experts) {
  if (!options.n) {
    fail(ErrorCode::kBadSelection, "method {} needs n, the number of experts a layer.",
         options.method);
  }
  if (*options.n < 1 || *options.n > num_experts) {
    fail(ErrorCode::kBadSelection, "n is {}, but must be between 1 and the {} experts of a layer.",
         *options.n, num_experts);
  }
  return *options.n;
}

std::map<int, std::vector<int>> take_budget(const SelectOptions& options, const LayerScores& scores,
                                            int num_experts) {
  if (!options.budget || !(*options.budget > 0 && *options.budget <= 1)) {
    fail(ErrorCode::kBadSelection,
         "method budget needs a budget above 0 and at most 1, the share of all routed experts{}.",
         options.budget ? fmt::format("; it is {}", *options.budget) : "");
  }
  struct Candidate {
    double score;
    int layer, id;
  };
  std::map<int, std::vector<int>> chosen;
  std::vector<Candidate> rest;
  const auto total =
      std::llround(*options.budget * num_experts * static_cast<double>(scores.size()));
  int64_t taken = 0;
  for (const auto& [layer, values] : scores) {
    const std::vector<int> ids = by_score(values);
    for (size_t i = 0; i < ids.size(); ++i) {
      if (static_cast<int>(i) < options.min_per_layer) {
        chosen[layer].push_back(ids[i]);
        ++taken;
      } else {
        rest.push_back({values[ids[i]], layer, ids[i]});
      }
    }
  }
  std::stable_sort(rest.begin(), rest.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  for (const Candidate& candidate : rest) {
    if (taken >= total) break;
    chosen[candidate.layer].push_back(candidate.id);
    ++taken;
  }
  return chosen;
}

}  // namespace

Selection select_experts(const SelectOptions& options, const ScoreTable& table) {
  const std::string& method = options.method;
  const bool by_top_p = method == "token" || method == "gate";
  if (!by_top_p && method != "random" && method != "top_n" && method != "budget" &&
      method != "none") {
    fail(ErrorCode::kBadSelection,
         "unknown selection method `{}`; known: token, gate, random, top_n, budget, none.", method);
  }
  if (options.min_per_layer < 0 || options.min_per_layer > table.num_experts) {
    fail(ErrorCode::kBadSelection,
         "min_per_layer is {}, but must be between 0 and the {} experts of a layer.",
         options.min_per_layer, table.num_experts);
  }
  const LayerScores scores = rounded_scores(options, table);
  Selection result;
  ExpertConfig& config = result.config;
  config.shared_experts = options.shared_experts;
  config.non_expert_modules = options.non_expert_modules;
  const double top_p = check_top_p(options);
  if (by_top_p) result.top_p = top_p;
  if (method == "budget") config.experts = take_budget(options, scores, table.num_experts);
  for (const auto& [layer, values] : scores) {
    if (by_top_p) config.experts[layer] = take_top_p(values, top_p, options.min_per_layer);
    if (method == "top_n") {
      config.experts[layer] = by_score(values);
      config.experts[layer].resize(check_n(options, table.num_experts));
    }
    if (method == "random") {
      const int n = options.n
                        ? check_n(options, table.num_experts)
                        : static_cast<int>(take_top_p(values, top_p, options.min_per_layer).size());
      config.experts[layer] = draw(table.num_experts, n, options.seed, layer);
    }
  }
  for (const auto& [layer, ids] : config.experts) {
    LayerSelection line{.layer = layer, .chosen = static_cast<int>(ids.size())};
    for (int id : ids) line.share += scores.at(layer)[id];
    line.all = by_top_p && line.chosen == table.num_experts && line.share < top_p;
    result.layers.push_back(line);
  }
  if (!config.trains_anything()) {
    fail(ErrorCode::kNothingTrains,
         "the selection is empty: no expert was chosen, and neither shared experts nor "
         "non-expert modules train. Raise top_p, n, budget or min_per_layer.");
  }
  return result;
}

}  // namespace sutor
