#include "launch/log/evaluation_rows.h"

#include <nlohmann/json.hpp>

#include "csrc/base/directory.h"
#include "csrc/base/file.h"

namespace sutor {
namespace {

// Keys of a row that are no metrics.
bool is_metric(const std::string& key) {
  return key != "step" && key != "tokens" && key != "epoch" && key != "eval_seconds";
}

bool is_row(const nlohmann::json& row) {
  return row.is_object() && row.contains("step") && row["step"].is_number_integer() &&
         row.contains("set") && row["set"].is_string();
}

}  // namespace

std::vector<EvalMetrics> read_evaluations(const std::filesystem::path& path) {
  std::vector<EvalMetrics> rows;
  if (!is_there(path)) return rows;
  const std::string content = read_file(path);
  for (size_t begin = 0, end; (end = content.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const auto row = nlohmann::json::parse(content.begin() + static_cast<std::ptrdiff_t>(begin),
                                           content.begin() + static_cast<std::ptrdiff_t>(end),
                                           nullptr, /*allow_exceptions=*/false);
    if (!is_row(row)) continue;
    EvalMetrics metrics{.step = row["step"], .set = row["set"]};
    for (const auto& [key, value] : row.items()) {
      if (value.is_number() && is_metric(key)) metrics.values[key] = value.get<double>();
    }
    rows.push_back(std::move(metrics));
  }
  return rows;
}

}  // namespace sutor
