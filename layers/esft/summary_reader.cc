// Reads summary.json, the scores that the authors' script and its ports make of records, and finds
// out whether they are what they should be: shares of a layer.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using LayerScores = std::map<int, std::vector<double>>;

constexpr int kMaxNumber = 1 << 16;
constexpr int64_t kMaxBytes = int64_t{1} << 30;
constexpr double kRounding = 0.5e-4;  // of a score, which has 4 decimals
constexpr const char* kRemedy =
    "Give the folder of the records (expert_weights_<layer>.txt, rank_*/) instead, or score again.";

int parse_key(const std::string& key, const std::string& where) {
  int value = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), value);
  if (error != std::errc() || end != key.data() + key.size() || value < 0 || value >= kMaxNumber) {
    fail(ErrorCode::kNotScores, "{}: the key \"{}\" is no number of a layer or an expert.", where,
         key);
  }
  return value;
}

LayerScores parse_scores(const Json& json, const std::string& where) {
  if (!json.is_object()) fail(ErrorCode::kNotScores, "{}: expected an object of layers.", where);
  LayerScores result;
  for (const auto& [layer_key, experts] : json.items()) {
    if (!experts.is_object()) {
      fail(ErrorCode::kNotScores, "{}: layer {} is no object of experts.", where, layer_key);
    }
    std::vector<double>& scores = result[parse_key(layer_key, where)];
    for (const auto& [expert_key, score] : experts.items()) {
      const auto expert = static_cast<size_t>(parse_key(expert_key, where));
      if (score.is_null()) {
        fail(ErrorCode::kNotScores,
             "{}: layer {}, expert {}: NaN or null is no score. A script that divides by the sum "
             "over the layers writes NaN for an expert that no token chose. {}",
             where, layer_key, expert_key, kRemedy);
      }
      if (!score.is_number() || !(score.get<double>() >= 0) || score.get<double>() > 1e15) {
        fail(ErrorCode::kNotScores, "{}: layer {}, expert {}: {} is no score.", where, layer_key,
             expert_key, score.dump());
      }
      if (scores.size() <= expert) scores.resize(expert + 1, -1);
      scores[expert] = score.get<double>();
    }
  }
  return result;
}

// Python writes NaN for a number that is none, which is not JSON.
Json parse_summary(const std::string& text, const std::string& name) {
  ParsedJson parsed = parse_json(text);
  if (!parsed.problem.empty() && text.find("NaN") != std::string::npos) {
    std::string with_nulls = text;
    for (size_t at = 0; (at = with_nulls.find("NaN", at)) != std::string::npos;) {
      with_nulls.replace(at, 3, "null");
    }
    ParsedJson again = parse_json(with_nulls);
    if (again.problem.empty()) parsed = std::move(again);
  }
  if (!parsed.problem.empty()) {
    fail(ErrorCode::kNotScores, "{}: not valid JSON: {}", name, parsed.problem);
  }
  if (parsed.repeated_key) {
    fail(ErrorCode::kNotScores, "{}: the key \"{}\" occurs twice.", name, *parsed.repeated_key);
  }
  if (!parsed.value.is_object() || !parsed.value.contains("token_scores")) {
    fail(ErrorCode::kNotScores,
         "{}: this is no score summary: expected the keys token_scores and gate_scores.", name);
  }
  return std::move(parsed.value);
}

// The sums of the layers that have scores.
struct LayerSums {
  std::map<int, double> of_layer{};
  double tolerance = 0;  // what rounding may make of a sum
  double least = 0, most = 0;

  bool all_near(double value) const {
    return least >= value - tolerance && most <= value + tolerance;
  }
  // Scores may have been rounded before they were multiplied.
  bool all_equal() const { return most - least <= 2 * tolerance * std::max(1.0, most); }
  // The layer whose sum is farthest from 1.
  int farthest() const {
    return std::max_element(of_layer.begin(), of_layer.end(),
                            [](const auto& a, const auto& b) {
                              return std::abs(a.second - 1) < std::abs(b.second - 1);
                            })
        ->first;
  }
};

LayerSums sums_of(const LayerScores& scores) {
  LayerSums sums;
  for (const auto& [layer, values] : scores) {
    double sum = 0;
    for (double value : values) sum += value;
    sums.tolerance = kRounding * static_cast<double>(values.size()) + 1e-6;
    if (sum <= 0) continue;
    sums.least = sums.of_layer.empty() ? sum : std::min(sums.least, sum);
    sums.most = std::max(sums.most, sum);
    sums.of_layer[layer] = sum;
  }
  return sums;
}

// Whether the scores of every expert add up to 1 over the layers, which is what numpy's sum over
// axis 0 makes of them. Then the shares of a layer are lost: each expert has another divisor.
bool are_shares_of_experts(const LayerScores& scores) {
  std::vector<double> sums;
  for (const auto& [layer, values] : scores) {
    sums.resize(std::max(sums.size(), values.size()), 0);
    for (size_t e = 0; e < values.size(); ++e) sums[e] += values[e];
  }
  const double tolerance = kRounding * static_cast<double>(scores.size()) + 1e-6;
  return std::all_of(sums.begin(), sums.end(),
                     [&](double sum) { return sum == 0 || std::abs(sum - 1) <= tolerance; });
}

bool are_counts(const LayerScores& scores) {
  for (const auto& [layer, values] : scores) {
    for (double value : values) {
      if (value != std::floor(value)) return false;
    }
  }
  return true;
}

// Half of the last decimal that the scores have, when that is above kRounding.
double coarse_rounding(const LayerScores& scores) {
  for (const double unit : {1e-2, 1e-3}) {
    bool all = true;
    for (const auto& [layer, values] : scores) {
      for (const double value : values) {
        const double units = value / unit;
        all = all && std::abs(units - std::round(units)) < 1e-6;
      }
    }
    if (all) return unit / 2;
  }
  return kRounding;
}

void divide_by_sums(LayerScores& scores, const LayerSums& sums) {
  for (const auto& [layer, sum] : sums.of_layer) {
    for (double& value : scores[layer]) value /= sum;
  }
}

std::string sums_text(const LayerSums& sums) {
  return fmt::format("layer {} adds up to {:.4f}, not to 1 (all layers: {:.4f} to {:.4f})",
                     sums.farthest(), sums.of_layer.at(sums.farthest()), sums.least, sums.most);
}

constexpr const char* kWrongAxis =
    "those of an expert add up to 1 over the layers: the script that wrote them divided along the "
    "wrong axis, and what share an expert has of its layer is lost";

// Token scores are shares of a layer. Whatever multiplied a whole layer can be divided out; what
// multiplied each expert by another factor cannot.
void settle_token(ScoreTable& table, const std::map<int, size_t>& listed, const std::string& name) {
  const LayerSums sums = sums_of(table.token);
  if (sums.of_layer.empty() || sums.all_near(1)) return;
  const auto refuse = [&](const std::string& why) {
    fail(ErrorCode::kBadScoreRecords, "{}: token_scores: {}; {}. {}", name, sums_text(sums), why,
         kRemedy);
  };
  if (are_shares_of_experts(table.token)) refuse(kWrongAxis);
  for (const auto& [layer, sum] : sums.of_layer) {
    if (std::abs(sum - 1) <= sums.tolerance) continue;
    if (const size_t count = listed.at(layer); count < static_cast<size_t>(table.num_experts)) {
      refuse(fmt::format("layer {} lists {} of {} experts", layer, count, table.num_experts));
    }
  }
  // Counts; one factor for all, as tokens, top-k or percent; layers of different numbers of tokens,
  // all divided by those of the first; or scores of fewer decimals.
  const double first = sums.of_layer.begin()->second;
  LayerSums coarse = sums;
  coarse.tolerance = coarse_rounding(table.token) * table.num_experts;
  if (!are_counts(table.token) && !sums.all_equal() && std::abs(first - 1) > sums.tolerance &&
      !coarse.all_near(1)) {
    refuse("they are neither counts nor shares, and no one factor explains the sums");
  }
  divide_by_sums(table.token, sums);
  table.mended_token =
      fmt::format("{}: token_scores: {}; each layer is divided by its sum", name, sums_text(sums));
}

// Gate scores add up to the mean weight of a token: to at most 1, unless the weights were scaled.
void settle_gate(ScoreTable& table, const RecordShape& model, const std::string& name) {
  const LayerSums sums = sums_of(table.gate);
  if (sums.of_layer.empty()) return;
  const auto drop = [&](const std::string& why) {
    table.gate.clear();
    table.no_gate = fmt::format("{}: gate_scores: {}; {}", name, sums_text(sums), why);
  };
  if (are_shares_of_experts(table.gate)) return drop(kWrongAxis);
  if (sums.most <= 1 + sums.tolerance) return;
  const double scale = model.weight_scale;
  if (scale > 1 && sums.most <= scale + sums.tolerance) {
    for (auto& [layer, values] : table.gate) {
      for (double& value : values) value /= scale;
    }
    table.mended_gate =
        fmt::format("{}: gate_scores: {}; they are divided by the model's routed_scaling_factor {}",
                    name, sums_text(sums), scale);
    return;
  }
  if (scale == 1 && sums.most <= model.top_k) return;  // a router that does not renormalise
  if (!sums.all_equal() || scale > 1) {
    return drop(scale == 0 ? "they may be scaled, by what only the model says; give it (--model)"
                           : fmt::format("the model's routed_scaling_factor {} does not explain it",
                                         scale));
  }
  divide_by_sums(table.gate, sums);
  table.mended_gate =
      fmt::format("{}: gate_scores: {}; each layer is divided by its sum", name, sums_text(sums));
}

// Lists every expert of every layer; returns how many each layer had.
std::map<int, size_t> fill_up(LayerScores& scores, int num_experts) {
  std::map<int, size_t> listed;
  for (auto& [layer, values] : scores) {
    listed[layer] = values.size() - std::count(values.begin(), values.end(), -1);
    values.resize(num_experts, 0);
    std::replace(values.begin(), values.end(), -1.0, 0.0);
  }
  return listed;
}

void check_same_layers(const ScoreTable& table, const std::string& name) {
  for (const auto& [layer, values] : table.token) {
    if (table.gate.empty() || table.gate.count(layer)) continue;
    fail(ErrorCode::kBadScoreRecords, "{}: layer {} has token scores, but no gate scores.", name,
         layer);
  }
  for (const auto& [layer, values] : table.gate) {
    const bool any_gate =
        std::any_of(values.begin(), values.end(), [](double value) { return value > 0; });
    const auto token = table.token.find(layer);
    const bool any_token =
        token != table.token.end() && std::any_of(token->second.begin(), token->second.end(),
                                                  [](double value) { return value > 0; });
    if (any_gate && !any_token) {
      fail(ErrorCode::kBadScoreRecords, "{}: layer {} has gate scores, but no token scores.", name,
           layer);
    }
  }
}

}  // namespace

ScoreTable read_summary(const fs::path& path, const RecordShape& model) {
  const std::string name = path.string();
  const Json json = parse_summary(read_file(path, kMaxBytes), name);
  ScoreTable table;
  table.token = parse_scores(json["token_scores"], name + ": token_scores");
  if (json.contains("gate_scores")) {
    table.gate = parse_scores(json["gate_scores"], name + ": gate_scores");
  }
  for (auto* scores : {&table.token, &table.gate}) {
    for (const auto& [layer, values] : *scores) {
      table.num_experts = std::max(table.num_experts, static_cast<int>(values.size()));
    }
  }
  const std::map<int, size_t> listed = fill_up(table.token, table.num_experts);
  fill_up(table.gate, table.num_experts);
  check_same_layers(table, name);
  const LayerSums sums = sums_of(table.token);
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (!sums.of_layer.empty() && !sums.all_near(1) && are_shares_of_experts(table.token) &&
      holds_records(folder)) {
    ScoreTable counted = read_record_table(folder, model);
    counted.mended_token =
        fmt::format("{}: token_scores: {}; {}: the scores are those of the records beside it", name,
                    sums_text(sums), kWrongAxis);
    return counted;
  }
  settle_token(table, listed, name);
  settle_gate(table, model, name);
  return table;
}

}  // namespace sutor
