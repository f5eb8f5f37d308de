#include "launch/plan/measured_rate.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <fstream>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "launch/log/run_paths.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

struct Steps {
  double tokens = 0, seconds = 0;
  int64_t count = 0;
};

// The first step of a start also warms caches up: it counts where there is no other.
Steps steps_of(const fs::path& metrics) {
  std::ifstream file(metrics);
  Steps first, steps;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("step_seconds") || !row.contains("tokens")) continue;
    if (!row["step_seconds"].is_number() || !row["tokens"].is_number()) continue;
    Steps& into = first.count == 0 ? first : steps;
    into.tokens += row["tokens"].get<double>();
    into.seconds += row["step_seconds"].get<double>();
    ++into.count;
  }
  return steps.count > 0 ? steps : first;
}

MeasuredRate rate_of_run(const fs::path& folder, const fs::path& metrics) {
  const Steps steps = steps_of(metrics);
  if (steps.count == 0 || steps.seconds <= 0) {
    fail(ErrorCode::kBadArgument, "{} has no training step with tokens and step_seconds",
         metrics.string());
  }
  const fs::path plan_path = plan_file(folder);
  const nlohmann::json plan =
      is_there(plan_path)
          ? nlohmann::json::parse(read_file(plan_path), nullptr, /*allow_exceptions=*/false)
          : nlohmann::json();
  const double flops = plan.is_object() ? plan.value("flops_per_token", 0.0) : 0;
  const double ranks = plan.is_object() ? plan.value("ranks", 1) : 1;
  if (!(flops > 0)) {
    fail(ErrorCode::kBadArgument,
         "{} does not say how many FLOPs a token of that run takes: it was made by an earlier "
         "sutor, or is not there. Give --measured a number of tokens a second instead.",
         plan_path.string());
  }
  MeasuredRate rate;
  rate.flops_a_rank = steps.tokens * flops / steps.seconds / ranks;
  rate.source = fmt::format("{} steps of {}: {:.3g} GFLOP/s a rank", steps.count, metrics.string(),
                            rate.flops_a_rank / 1e9);
  return rate;
}

}  // namespace

double MeasuredRate::seconds_a_step(const RunPlan& plan) const {
  const auto tokens = static_cast<double>(plan.data.tokens_a_step);
  if (tokens_a_second > 0) return tokens / tokens_a_second;
  return tokens * plan.flops_per_token / (flops_a_rank * plan.world);
}

MeasuredRate measured_rate(const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size()) {
    if (!(number > 0) || !std::isfinite(number)) {
      fail(ErrorCode::kBadArgument,
           "sutor plan: --measured is {}; expected tokens a second, above 0", text);
    }
    MeasuredRate rate;
    rate.tokens_a_second = number;
    rate.source = fmt::format("{:.6g} tokens/s, as given", number);
    return rate;
  }
  const fs::path path(text);
  std::error_code ignored;
  const bool is_folder = fs::is_directory(path, ignored);
  const fs::path metrics = is_folder ? RunPaths(path).metrics() : path;
  if (!is_there(metrics)) {
    fail(ErrorCode::kBadArgument,
         "{} does not exist. --measured takes tokens a second, the output folder of a training, or "
         "its metrics.jsonl",
         metrics.string());
  }
  return rate_of_run(is_folder ? path : path.parent_path(), metrics);
}

std::optional<MeasuredRate> own_rate(const std::string& output) {
  const RunPaths paths(output);
  if (!is_there(paths.metrics()) || !is_there(plan_file(output))) return std::nullopt;
  try {
    return rate_of_run(output, paths.metrics());
  } catch (const Error&) {
    return std::nullopt;  // a run that was stopped before its first step
  }
}

}  // namespace sutor
