#include "launch/inspect/inspect_scores.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "launch/eval/score_verdict.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

using Row = std::vector<nlohmann::ordered_json>;

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

// By both kinds of score, as the methods `token` and `gate` do without a top_p.
void add_halves(InspectReport& report, const StoredScores& stored) {
  for (const char* method : {"token", "gate"}) {
    const std::string label = fmt::format("halves agree by {}", method);
    const auto overlap = stored.first_half
                             ? half_overlap(stored.scores, *stored.first_half, {.method = method})
                             : std::nullopt;
    if (!overlap) {
      report.add(label, nullptr,
                 stored.first_half ? "cannot be said of so small a sample" : "not recorded");
      continue;
    }
    report.add(label,
               {{"overlap", overlap->total},
                {"worst_layer", overlap->worst_layer},
                {"worst_overlap", overlap->worst},
                {"first_half_tokens", overlap->first_tokens},
                {"second_half_tokens", overlap->second_tokens}},
               fmt::format("{} of the selected experts, least in layer {}: {}",
                           percent_text(overlap->total), overlap->worst_layer,
                           percent_text(overlap->worst)));
  }
}

}  // namespace

InspectReport inspect_scores(const fs::path& path) {
  const StoredScores stored = read_scores(path);
  const ExpertScores& scores = stored.scores;
  InspectReport report("expert scores", path.string());
  report.add("family", stored.origin.family);
  report.add("layers", static_cast<int64_t>(scores.layers().size()));
  report.add("experts a layer", scores.num_experts());
  report.add("experts a token", scores.top_k());
  report.add("tokens", scores.num_tokens());
  add_halves(report, stored);
  report.add("base", stored.origin.base_digest);
  report.add("data", stored.origin.data_digest);
  report.add("made by", stored.origin.version);
  std::vector<Row> rows;
  for (const int layer : scores.layers()) {
    int busiest = 0, unused = 0;
    for (int expert = 0; expert < scores.num_experts(); ++expert) {
      if (scores.counts(layer)[expert] > scores.counts(layer)[busiest]) busiest = expert;
      unused += scores.counts(layer)[expert] == 0;
    }
    rows.push_back({std::to_string(layer), scores.num_tokens(layer), busiest,
                    percent_text(scores.token_score(layer, busiest)), unused});
  }
  report.add_table("by layer", {"layer", "tokens", "busiest expert", "its share", "unused experts"},
                   rows);
  return report;
}

InspectReport inspect_foreign_scores(const std::filesystem::path& path) {
  const ScoreTable table = read_score_table(path);
  InspectReport report("expert scores of another tool", path.string());
  report.add("layers", static_cast<int64_t>(table.token.size()));
  report.add("experts a layer", table.num_experts);
  report.add("tokens", table.num_tokens,
             table.num_tokens > 0 ? std::to_string(table.num_tokens) : "not recorded");
  report.add("gate scores", !table.gate.empty(),
             !table.gate.empty()     ? "yes"
             : table.no_gate.empty() ? "none"
                                     : "cannot be used: " + table.no_gate);
  std::vector<std::string> remarks = remarks_on(table, /*gate=*/false, path.string());
  if (!table.mended_gate.empty()) remarks.push_back(table.mended_gate);
  report.add("remarks", remarks,
             remarks.empty() ? "none" : fmt::format("{}", fmt::join(remarks, "; ")));
  std::vector<Row> rows;
  for (const auto& [layer, scores] : table.token) {
    const auto busiest = std::max_element(scores.begin(), scores.end());
    const auto gate = table.gate.find(layer);
    rows.push_back({std::to_string(layer), busiest - scores.begin(), percent_text(*busiest),
                    std::count(scores.begin(), scores.end(), 0.0),
                    gate == table.gate.end() ? "-" : fmt::format("{:.4f}", sum_of(gate->second))});
  }
  report.add_table("by layer",
                   {"layer", "busiest expert", "its share", "unused experts", "sum of gate scores"},
                   rows);
  return report;
}

}  // namespace sutor
