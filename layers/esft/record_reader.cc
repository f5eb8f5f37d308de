// Scores of text records: finds out what the records do not state, and counts.
#include <algorithm>
#include <cmath>

#include "csrc/base/error.h"
#include "layers/esft/record_files.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

// Why the records are not those of top-k routing; "" when they can be.
std::string objection_to_top_k(const LayerRecords& records, size_t k) {
  std::vector<int64_t> run;
  for (const auto& [layer, passes] : records) {
    for (const RecordedPass& pass : passes) {
      if (pass.ids.size() % k != 0) {
        return fmt::format("{}: {} expert ids are not {} a token", pass.where, pass.ids.size(), k);
      }
      for (size_t begin = 0; begin < pass.ids.size(); begin += k) {
        run.assign(pass.ids.begin() + static_cast<ptrdiff_t>(begin),
                   pass.ids.begin() + static_cast<ptrdiff_t>(begin + k));
        std::sort(run.begin(), run.end());
        const auto twice = std::adjacent_find(run.begin(), run.end());
        if (twice != run.end()) {
          return fmt::format("{}: token {} has expert {} twice among its {}", pass.where, begin / k,
                             *twice, k);
        }
      }
    }
  }
  return "";
}

// The ids of a token are all different, so top-k is the longest run length that divides every line
// and never repeats an id: a multiple of it would need neighbours that never share an expert.
RecordShape find_shape(const LayerRecords& records, RecordShape shape, const fs::path& folder) {
  int64_t highest = -1;
  std::string where;
  for (const auto& [layer, passes] : records) {
    for (const RecordedPass& pass : passes) {
      const int64_t here = *std::max_element(pass.ids.begin(), pass.ids.end());
      if (here <= highest) continue;
      highest = here;
      where = pass.where;
    }
  }
  if (highest < 0) {
    fail(ErrorCode::kBadScoreRecords, "{}: the record files hold no tokens.", folder.string());
  }
  if (shape.num_experts == 0) shape.num_experts = static_cast<int>(highest) + 1;
  if (highest >= shape.num_experts) {
    fail(ErrorCode::kBadScoreRecords,
         "{}: a record names expert {}, but the model has {} experts (0 to {}). Are the records of "
         "another model?",
         where, highest, shape.num_experts, shape.num_experts - 1);
  }
  if (shape.top_k != 0) {
    const std::string objection = objection_to_top_k(records, static_cast<size_t>(shape.top_k));
    if (!objection.empty()) {
      fail(ErrorCode::kBadScoreRecords, "{}: the records are not those of top-{} routing.",
           objection, shape.top_k);
    }
    return shape;
  }
  for (int k = std::min(shape.num_experts, 64); k > 0 && shape.top_k == 0; --k) {
    if (objection_to_top_k(records, static_cast<size_t>(k)).empty()) shape.top_k = k;
  }
  return shape;
}

// What to divide the weights of records by, since a hook behind the router sees them after
// routed_scaling_factor.
struct WeightScale {
  double divisor = 1;
  std::string problem;  // why that cannot be told; "" when it can
};

struct WeightSums {
  double least = 1e30, most = 0;  // of the weights of a token
  double largest = 0;             // weight
};

WeightSums sums_of(const LayerRecords& records, size_t k) {
  WeightSums sums;
  for (const auto& [layer, passes] : records) {
    for (const RecordedPass& pass : passes) {
      for (size_t begin = 0; begin < pass.weights.size(); begin += k) {
        double sum = 0;
        for (size_t i = begin; i < begin + k; ++i) {
          sum += pass.weights[i];
          sums.largest = std::max(sums.largest, static_cast<double>(pass.weights[i]));
        }
        sums.least = std::min(sums.least, sum);
        sums.most = std::max(sums.most, sum);
      }
    }
  }
  return sums;
}

WeightScale find_scale(const LayerRecords& records, const RecordShape& shape) {
  constexpr double kSlack = 0.01;  // of bf16, which the model computed in
  const WeightSums sums = sums_of(records, static_cast<size_t>(shape.top_k));
  const double rounding = 1e-4 * shape.top_k;
  const auto is_near = [&](double value, double to) {
    return std::abs(value - to) <= kSlack * to + rounding;
  };
  if (sums.most <= 1 + kSlack + rounding) return {};
  // Renormalised weights add up to the same in every token: to 1 before they were scaled.
  const double middle = (sums.least + sums.most) / 2;
  const bool same = is_near(sums.least, middle) && is_near(sums.most, middle);
  if (same && shape.weight_scale == 0) return {.divisor = middle};
  const double by_model = shape.weight_scale;
  const bool fits =
      same ? is_near(middle, by_model) : sums.most <= by_model * (1 + kSlack) + rounding;
  if (by_model > 1 && fits) return {.divisor = by_model};
  // A router whose weights need not add up to 1: those of a token then differ from token to token.
  if (!same && sums.largest <= 1 + kSlack) return {};
  return {
      .problem = fmt::format(
          "the weights of a token add up to {:.4f} .. {:.4f}, one is {:.4f}: they were recorded "
          "after a scale, which {}",
          sums.least, sums.most, sums.largest,
          shape.weight_scale == 0 ? "nothing here says; give the model (--model)"
                                  : fmt::format("is not the routed_scaling_factor {} of the "
                                                "model",
                                                shape.weight_scale))};
}

std::vector<float> unscaled(const RecordedPass& pass, const WeightScale& scale) {
  std::vector<float> weights(pass.weights.size(), 0);
  for (size_t i = 0; scale.problem.empty() && i < weights.size(); ++i) {
    weights[i] = std::min(static_cast<float>(pass.weights[i] / scale.divisor), 1.0F);
  }
  return weights;
}

ExpertScores empty_scores(const LayerRecords& records, const RecordShape& shape) {
  std::vector<int> layers;
  for (const auto& [layer, passes] : records) layers.push_back(layer);
  return {layers, shape.num_experts, shape.top_k};
}

ExpertScores scores_of(const LayerRecords& records, const RecordShape& shape,
                       const WeightScale& scale) {
  ExpertScores scores = empty_scores(records, shape);
  for (const auto& [layer, passes] : records) {
    for (const RecordedPass& pass : passes)
      scores.add(layer, pass.ids, unscaled(pass, scale), shape.top_k);
  }
  return scores;
}

// Layers of one run have equally many tokens; a run that was killed, or a file that is missing from
// one rank's folder, shows here. Shares are of the layer's own tokens and stay right.
std::string tokens_note(const ExpertScores& scores, const fs::path& folder) {
  int64_t least = INT64_MAX, most = 0;
  for (int layer : scores.layers()) {
    if (scores.num_tokens(layer) == 0) continue;
    least = std::min(least, scores.num_tokens(layer));
    most = std::max(most, scores.num_tokens(layer));
  }
  if (least >= most) return "";
  return fmt::format(
      "{}: the layers have records of {} to {} tokens: not all of them are of the whole run",
      folder.string(), least, most);
}

}  // namespace

ExpertScores read_records(const fs::path& folder, const RecordShape& given) {
  const LayerRecords records = all_records(folder);
  const RecordShape shape = find_shape(records, given, folder);
  return scores_of(records, shape, find_scale(records, shape));
}

ScoreTable read_record_table(const fs::path& folder, const RecordShape& given) {
  const LayerRecords records = all_records(folder);
  const RecordShape shape = find_shape(records, given, folder);
  const WeightScale scale = find_scale(records, shape);
  const ExpertScores scores = scores_of(records, shape, scale);
  ScoreTable table = scores.table();
  table.note = tokens_note(scores, folder);
  if (!scale.problem.empty()) {
    table.gate.clear();
    table.no_gate = fmt::format("{}: {}", folder.string(), scale.problem);
  } else if (scale.divisor != 1) {
    table.mended_gate = fmt::format(
        "{}: the weights of a token add up to more than 1, because routed_scaling_factor is in "
        "them; the gate scores are divided by {:.4f}",
        folder.string(), scale.divisor);
  }
  return table;
}

std::pair<ExpertScores, ExpertScores> read_record_halves(const fs::path& folder,
                                                         const RecordShape& given) {
  const LayerRecords records = all_records(folder);
  const RecordShape shape = find_shape(records, given, folder);
  const WeightScale scale = find_scale(records, shape);
  std::pair halves{empty_scores(records, shape), empty_scores(records, shape)};
  const auto k = static_cast<size_t>(shape.top_k);
  for (const auto& [layer, passes] : records) {
    size_t tokens = 0, seen = 0;
    for (const RecordedPass& pass : passes) tokens += pass.ids.size() / k;
    for (const RecordedPass& pass : passes) {
      const size_t here = pass.ids.size() / k;
      const size_t first = std::min(here, tokens / 2 - std::min(tokens / 2, seen)) * k;
      const std::span<const int64_t> ids(pass.ids);
      const std::vector<float> all_weights = unscaled(pass, scale);
      const std::span<const float> weights(all_weights);
      halves.first.add(layer, ids.first(first), weights.first(first), shape.top_k);
      halves.second.add(layer, ids.subspan(first), weights.subspan(first), shape.top_k);
      seen += here;
    }
  }
  return halves;
}

}  // namespace sutor
