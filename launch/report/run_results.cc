#include "launch/report/run_results.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "launch/checkpoints/best_checkpoint.h"
#include "launch/checkpoints/unbeaten_base.h"
#include "launch/log/evaluation_rows.h"

namespace sutor {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxLogBytes = int64_t{8} << 30;

// JSON has no infinity.
Json finite(double value) { return std::isfinite(value) ? Json(value) : Json(); }

double number_in(const nlohmann::json& row, const char* key) {
  const auto at = row.find(key);
  return at != row.end() && at->is_number() ? at->get<double>() : std::nan("");
}

int64_t count_in(const nlohmann::json& row, const char* key) {
  const auto at = row.find(key);
  return at != row.end() && at->is_number_integer() ? at->get<int64_t>() : 0;
}

// Of the complete lines that are objects with a step.
template <typename Body>
void for_each_row(const std::filesystem::path& path, const Body& body) {
  if (!is_there(path)) return;
  const std::string content = read_file(path, kMaxLogBytes);
  for (size_t begin = 0, end; (end = content.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const auto row = nlohmann::json::parse(content.begin() + static_cast<std::ptrdiff_t>(begin),
                                           content.begin() + static_cast<std::ptrdiff_t>(end),
                                           nullptr, /*allow_exceptions=*/false);
    if (row.is_object() && count_in(row, "step") > 0) body(row);
  }
}

struct MetricRow {
  std::optional<double> before, best, last;
  int64_t best_step = -1, last_step = -1;
};

Json optional_json(const std::optional<double>& value) { return value ? finite(*value) : Json(); }

}  // namespace

nlohmann::ordered_json training_results(const RunPaths& paths) {
  int64_t steps = 0, tokens = 0, supervised = 0, peak = 0;
  double first = std::nan(""), last = std::nan(""), seconds = 0;
  for_each_row(paths.metrics(), [&](const nlohmann::json& row) {
    last = number_in(row, "loss");
    if (steps == 0) first = last;
    steps = count_in(row, "step");
    tokens += count_in(row, "tokens");
    supervised += count_in(row, "supervised_tokens");
    peak = std::max(peak, count_in(row, "peak_memory_bytes"));
    double took = number_in(row, "step_seconds");
    if (!std::isfinite(took)) {
      took = static_cast<double>(count_in(row, "tokens")) / number_in(row, "tokens_per_s");
    }
    if (std::isfinite(took)) seconds += took;
  });
  if (steps == 0) return nullptr;
  return {{"steps", steps},
          {"first_loss", finite(first)},
          {"last_loss", finite(last)},
          {"tokens", tokens},
          {"supervised_tokens", supervised},
          {"seconds", seconds},
          {"tokens_per_s", finite(static_cast<double>(tokens) / seconds)},
          {"peak_memory_bytes", peak}};
}

nlohmann::ordered_json evaluation_results(const RunPaths& paths) {
  std::vector<std::pair<std::string, std::string>> order;
  std::map<std::pair<std::string, std::string>, MetricRow> rows;
  for (const EvalMetrics& evaluation : read_evaluations(paths.evaluations())) {
    for (const auto& [metric, value] : evaluation.values) {
      const auto key = std::pair(evaluation.set, metric);
      if (!rows.contains(key)) order.push_back(key);
      MetricRow& row = rows[key];
      if (evaluation.step == 0) {
        row.before = value;
        continue;
      }
      row.last = value;
      row.last_step = evaluation.step;
      if (!std::isfinite(value)) continue;
      if (row.best && !is_better(evaluation.set + "." + metric, value, *row.best)) continue;
      row.best = value;
      row.best_step = evaluation.step;
    }
  }
  Json results = Json::array();
  for (const auto& key : order) {
    const MetricRow& row = rows[key];
    results.push_back({{"set", key.first},
                       {"metric", key.second},
                       {"before", optional_json(row.before)},
                       {"best", optional_json(row.best)},
                       {"best_step", row.best_step},
                       {"last", optional_json(row.last)},
                       {"last_step", row.last_step}});
  }
  return results;
}

nlohmann::ordered_json checkpoint_results(const RunPaths& paths) {
  const std::filesystem::path root = paths.checkpoints();
  const auto best = read_pointer(root, kBestPointer), latest = read_pointer(root, kLatestPointer);
  Json results = Json::array();
  for (const CheckpointEntry& entry : step_directories(root)) {
    Json result = {{"step", entry.step}, {"folder", entry.path.filename().string()}};
    Json marks = Json::array();
    if (best && best->step == entry.step) marks.push_back("best");
    if (latest && latest->step == entry.step) marks.push_back("latest");
    try {
      const Manifest manifest = read_manifest(entry.path);
      result["complete"] = true;
      result["bytes"] = manifest.total_bytes();
      result["layout"] = manifest.meta.layout;
      result["made"] = manifest.meta.provenance;
    } catch (const Error& error) {
      result["complete"] = false;
      result["problem"] = error.what();
    }
    result["marks"] = marks;
    results.push_back(std::move(result));
  }
  return results;
}

nlohmann::ordered_json best_result(const RunPaths& paths) {
  const std::vector<CheckpointEntry> all = list_checkpoints(paths.checkpoints());
  if (all.empty()) return nullptr;
  try {
    const CheckpointReader reader(all.back().path);
    const nlohmann::json& state = reader.meta().state;
    const BestValue known{state.at("best").at("metric"), state.at("best").at("value"),
                          state.at("best").at("step")};
    const BestValue best =
        best_of(known, read_evaluations(paths.evaluations()), paths.checkpoints(), all.back().step);
    Json result = {{"metric", best.metric}, {"value", finite(best.value)}, {"step", best.step}};
    if (best.step < 0) return nullptr;
    if (const auto unbeaten = unbeaten_base(state)) result["unbeaten"] = unbeaten->text();
    return result;
  } catch (const nlohmann::json::exception&) {
    return nullptr;  // of another program's state
  } catch (const Error& error) {
    if (!is_damage(error.code())) throw;
    return nullptr;  // which `checkpoints` tells
  }
}

}  // namespace sutor
