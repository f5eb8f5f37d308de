#include "launch/log/plan_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "csrc/base/file.h"
#include "launch/log/metrics_log.h"

namespace sutor {
namespace {

nlohmann::ordered_json to_json(const PlanFigures& figures) {
  nlohmann::ordered_json json = {{"peak_bytes", figures.peak_bytes},
                                 {"items", figures.items},
                                 {"parameters", figures.parameters},
                                 {"step_seconds", nullptr}};
  if (figures.step_seconds) json["step_seconds"] = *figures.step_seconds;
  return json;
}

}  // namespace

void write_plan_file(const std::filesystem::path& path, const PlannedRun& planned,
                     const std::optional<PlanFigures>& measured) {
  nlohmann::ordered_json json = {{"planned", to_json(planned.figures)},
                                 {"measured", nullptr},
                                 {"flops_per_token", planned.flops_per_token},
                                 {"ranks", planned.ranks}};
  if (measured) json["measured"] = to_json(*measured);
  write_file_atomic(path, json.dump(2) + "\n");
}

std::string plan_line(const PlannedRun& planned, const PlanFigures& measured) {
  const PlanFigures& plan = planned.figures;
  const double more = 100.0 * (static_cast<double>(plan.peak_bytes) /
                                   static_cast<double>(std::max<int64_t>(1, measured.peak_bytes)) -
                               1);
  std::string items;
  for (const auto& [name, bytes] : measured.items) {
    const auto at = plan.items.find(name);
    const int64_t wanted = at == plan.items.end() ? 0 : at->second;
    if (bytes == 0 && wanted == 0) continue;
    items += fmt::format("{}{} {} of {}", items.empty() ? ": " : ", ", name, format_bytes(bytes),
                         format_bytes(wanted));
  }
  std::string line =
      fmt::format("plan     peak {}, planned {} ({:+.1f}%){}", format_bytes(measured.peak_bytes),
                  format_bytes(plan.peak_bytes), more, items);
  if (plan.step_seconds && measured.step_seconds) {
    line += fmt::format("; a step {:.3g} s, planned {:.3g} s", *measured.step_seconds,
                        *plan.step_seconds);
  }
  return line;
}

}  // namespace sutor
