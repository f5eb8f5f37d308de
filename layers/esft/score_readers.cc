// Reads the published forms of scores: text records and summary.json.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kMaxExperts = 1 << 16;
constexpr int64_t kMaxRecordBytes = int64_t{8} << 30;
constexpr std::string_view kRecordPrefix = "expert_weights_";

// The choices of one forward pass at one layer.
struct Pass {
  std::vector<int64_t> ids;
  std::vector<float> weights;
};
using LayerRecords = std::map<int, std::vector<Pass>>;

template <typename T>
void parse_fields(std::string_view text, std::vector<T>& values, const std::string& where) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    T value{};
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc() || (next != end && *next != '\t')) {
      fail(ErrorCode::kBadScoreRecords, "{}: expected numbers separated by TABs, found `{}`.",
           where, std::string_view(at, std::min<size_t>(20, static_cast<size_t>(end - at))));
    }
    values.push_back(value);
    if (next == end) return;
    at = next + 1;
  }
}

Pass parse_line(std::string_view line, const std::string& where) {
  while (!line.empty() && (line.back() == '\r' || line.back() == '\t')) line.remove_suffix(1);
  const size_t gap = line.find("\t\t");
  if (gap == std::string_view::npos) {
    fail(ErrorCode::kBadScoreRecords, "{}: expected expert ids, two TABs, and as many weights.",
         where);
  }
  Pass pass;
  parse_fields(line.substr(0, gap), pass.ids, where);
  parse_fields(line.substr(gap + 2), pass.weights, where);
  if (pass.ids.size() != pass.weights.size()) {
    fail(ErrorCode::kBadScoreRecords, "{}: {} expert ids, but {} weights.", where, pass.ids.size(),
         pass.weights.size());
  }
  for (int64_t id : pass.ids) {
    if (id < 0 || id >= kMaxExperts) {
      fail(ErrorCode::kBadScoreRecords, "{}: {} is no expert id.", where, id);
    }
  }
  return pass;
}

std::vector<Pass> read_record_file(const fs::path& path) {
  const std::string text = read_file(path, kMaxRecordBytes);
  std::vector<Pass> passes;
  size_t begin = 0;
  for (int number = 1; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line(text.data() + begin, end - begin);
    if (!line.empty()) {
      passes.push_back(parse_line(line, fmt::format("{}:{}", path.string(), number)));
    }
    begin = end + 1;
  }
  return passes;
}

std::optional<int> record_layer(const std::string& name) {
  if (name.rfind(kRecordPrefix, 0) != 0 || !name.ends_with(".txt")) return std::nullopt;
  const char* const begin = name.data() + kRecordPrefix.size();
  const char* const end = name.data() + name.size() - 4;
  int layer = 0;
  const auto [stop, error] = std::from_chars(begin, end, layer);
  if (error != std::errc() || stop != end || layer < 0) return std::nullopt;
  return layer;
}

void collect_records(const fs::path& folder, LayerRecords& records) {
  for (const fs::path& entry : entries_of(folder)) {
    const std::optional<int> layer = record_layer(entry.filename().string());
    if (!layer) continue;
    std::vector<Pass>& all = records[*layer];
    for (Pass& pass : read_record_file(entry)) all.push_back(std::move(pass));
  }
}

// The ids of a token are all different, so top-k is the longest run length that divides every line
// and never repeats an id: a multiple of it would need neighbours that never share an expert.
bool fits_top_k(const LayerRecords& records, size_t k) {
  std::vector<int64_t> run;
  for (const auto& [layer, passes] : records) {
    for (const Pass& pass : passes) {
      if (pass.ids.size() % k != 0) return false;
      for (size_t begin = 0; begin < pass.ids.size(); begin += k) {
        run.assign(pass.ids.begin() + static_cast<ptrdiff_t>(begin),
                   pass.ids.begin() + static_cast<ptrdiff_t>(begin + k));
        std::sort(run.begin(), run.end());
        if (std::adjacent_find(run.begin(), run.end()) != run.end()) return false;
      }
    }
  }
  return true;
}

RecordShape find_shape(const LayerRecords& records, RecordShape shape, const fs::path& folder) {
  int64_t highest = -1;
  for (const auto& [layer, passes] : records) {
    for (const Pass& pass : passes) {
      highest = std::max(highest, *std::max_element(pass.ids.begin(), pass.ids.end()));
    }
  }
  if (highest < 0) {
    fail(ErrorCode::kBadScoreRecords, "{}: the record files hold no tokens.", folder.string());
  }
  if (shape.num_experts == 0) shape.num_experts = static_cast<int>(highest) + 1;
  if (highest >= shape.num_experts) {
    fail(ErrorCode::kBadScoreRecords, "{}: the records name expert {}, but there are {} experts.",
         folder.string(), highest, shape.num_experts);
  }
  if (shape.top_k != 0) {
    if (!fits_top_k(records, static_cast<size_t>(shape.top_k))) {
      fail(ErrorCode::kBadScoreRecords, "{}: the records are not those of top-{} routing.",
           folder.string(), shape.top_k);
    }
    return shape;
  }
  for (int k = std::min(shape.num_experts, 64); k > 0 && shape.top_k == 0; --k) {
    if (fits_top_k(records, static_cast<size_t>(k))) shape.top_k = k;
  }
  return shape;
}

bool is_rank_folder(const fs::path& entry) {
  return entry.filename().string().starts_with("rank_") && is_folder(entry);
}

bool holds_records(const fs::path& folder) {
  for (const fs::path& entry : entries_of(folder)) {
    if (is_rank_folder(entry) || record_layer(entry.filename().string())) return true;
  }
  return false;
}

int parse_key(const std::string& key, int most, const std::string& where) {
  int value = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), value);
  if (error != std::errc() || end != key.data() + key.size() || value < 0 || value >= most) {
    fail(ErrorCode::kNotScores, "{}: the key \"{}\" is no number of a layer or an expert.", where,
         key);
  }
  return value;
}

std::map<int, std::vector<double>> parse_scores(const Json& json, const std::string& where) {
  if (!json.is_object()) fail(ErrorCode::kNotScores, "{}: expected an object of layers.", where);
  std::map<int, std::vector<double>> result;
  for (const auto& [layer_key, experts] : json.items()) {
    if (!experts.is_object()) {
      fail(ErrorCode::kNotScores, "{}: layer {} is no object of experts.", where, layer_key);
    }
    std::vector<double>& scores = result[parse_key(layer_key, kMaxExperts, where)];
    for (const auto& [expert_key, score] : experts.items()) {
      const auto expert = static_cast<size_t>(parse_key(expert_key, kMaxExperts, where));
      if (!score.is_number() || !(score.get<double>() >= 0)) {
        fail(ErrorCode::kNotScores, "{}: layer {}, expert {}: {} is no score.", where, layer_key,
             expert_key, score.dump());
      }
      if (scores.size() <= expert) scores.resize(expert + 1, 0);
      scores[expert] = score.get<double>();
    }
  }
  return result;
}

ScoreTable read_summary(const fs::path& path) {
  const std::string name = path.string();
  const ParsedJson parsed = parse_json(read_file(path, kMaxRecordBytes));
  if (!parsed.problem.empty()) {
    fail(ErrorCode::kNotScores, "{}: not valid JSON: {}", name, parsed.problem);
  }
  const Json& json = parsed.value;
  if (!json.is_object() || !json.contains("token_scores")) {
    fail(ErrorCode::kNotScores,
         "{}: this is no score summary: expected the keys token_scores and gate_scores.", name);
  }
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
  for (auto* scores : {&table.token, &table.gate}) {
    for (auto& [layer, values] : *scores) values.resize(table.num_experts, 0);
  }
  return table;
}

LayerRecords all_records(const fs::path& folder) {
  LayerRecords records;
  collect_records(folder, records);
  for (const fs::path& entry : entries_of(folder)) {
    if (is_rank_folder(entry)) collect_records(entry, records);
  }
  if (records.empty()) {
    fail(ErrorCode::kBadScoreRecords,
         "{}: found no expert_weights_<layer>.txt, neither here nor in rank_*/.", folder.string());
  }
  return records;
}

ExpertScores empty_scores(const LayerRecords& records, const RecordShape& shape) {
  std::vector<int> layers;
  for (const auto& [layer, passes] : records) layers.push_back(layer);
  return {layers, shape.num_experts, shape.top_k};
}

}  // namespace

ExpertScores read_records(const fs::path& folder, const RecordShape& given) {
  const LayerRecords records = all_records(folder);
  const RecordShape shape = find_shape(records, given, folder);
  ExpertScores scores = empty_scores(records, shape);
  for (const auto& [layer, passes] : records) {
    for (const Pass& pass : passes) scores.add(layer, pass.ids, pass.weights, shape.top_k);
  }
  return scores;
}

std::pair<ExpertScores, ExpertScores> read_record_halves(const fs::path& folder,
                                                         const RecordShape& given) {
  const LayerRecords records = all_records(folder);
  const RecordShape shape = find_shape(records, given, folder);
  std::pair halves{empty_scores(records, shape), empty_scores(records, shape)};
  const auto k = static_cast<size_t>(shape.top_k);
  for (const auto& [layer, passes] : records) {
    size_t tokens = 0, seen = 0;
    for (const Pass& pass : passes) tokens += pass.ids.size() / k;
    for (const Pass& pass : passes) {
      const size_t here = pass.ids.size() / k;
      const size_t first = std::min(here, tokens / 2 - std::min(tokens / 2, seen)) * k;
      const std::span<const int64_t> ids(pass.ids);
      const std::span<const float> weights(pass.weights);
      halves.first.add(layer, ids.first(first), weights.first(first), shape.top_k);
      halves.second.add(layer, ids.subspan(first), weights.subspan(first), shape.top_k);
      seen += here;
    }
  }
  return halves;
}

ScoreTable read_score_table(const fs::path& path, const RecordShape& shape) {
  if (is_folder(path)) {
    if (holds_records(path)) return read_records(path, shape).table();
    for (const char* name : {"scores.h5", "summary.json"}) {
      if (is_there(path / name)) return read_score_table(path / name, shape);
    }
    fail(ErrorCode::kNotScores,
         "{}: this folder has no scores: no expert_weights_<layer>.txt, rank_*/, scores.h5 or "
         "summary.json.",
         path.string());
  }
  if (path.extension() == ".json") return read_summary(path);
  return read_scores(path).scores.table();
}

}  // namespace sutor
