// Scores in any form, as the selection reads them.
#include <fmt/ranges.h>

#include <algorithm>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

ScoreTable read_any(const fs::path& path, const RecordShape& shape) {
  if (is_folder(path)) {
    if (holds_records(path)) return read_record_table(path, shape);
    for (const char* name : {"scores.h5", "summary.json"}) {
      if (is_there(path / name)) return read_any(path / name, shape);
    }
    fail(ErrorCode::kNotScores,
         "{}: this folder has no scores: no expert_weights_<layer>.txt, rank_*/, scores.h5 or "
         "summary.json.",
         path.string());
  }
  if (path.extension() == ".json") return read_summary(path, shape);
  return read_scores(path).scores.table();
}

bool is_empty(const std::vector<double>& scores) {
  return std::all_of(scores.begin(), scores.end(), [](double score) { return score == 0; });
}

}  // namespace

ScoreTable read_score_table(const fs::path& path, const RecordShape& shape) {
  ScoreTable table = read_any(path, shape);
  for (const auto& [layer, scores] : table.token) {
    if (is_empty(scores)) table.empty_layers.push_back(layer);
  }
  for (const int layer : table.empty_layers) {
    table.token.erase(layer);
    table.gate.erase(layer);
  }
  if (table.token.empty()) {
    fail(ErrorCode::kIncompleteScores, "{}: no layer has scores above 0: no token was routed.",
         path.string());
  }
  return table;
}

std::vector<std::string> remarks_on(const ScoreTable& table, bool gate, const std::string& name) {
  std::vector<std::string> remarks;
  const std::string& mended = gate ? table.mended_gate : table.mended_token;
  if (!mended.empty()) {
    remarks.push_back(fmt::format("warning[{}]: {}", WarningCode::kScoresNormalised, mended));
  }
  if (!table.empty_layers.empty()) {
    remarks.push_back(fmt::format(
        "warning[{}]: {}: only zeros at layer {}: left out, as a layer without experts or one that "
        "the model does not have",
        WarningCode::kEmptyScoreLayer, name, fmt::join(table.empty_layers, ", ")));
  }
  if (!table.note.empty()) remarks.push_back(fmt::format("note: {}", table.note));
  return remarks;
}

}  // namespace sutor
