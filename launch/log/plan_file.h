// plan.json of a run: what was planned beside what was measured.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace sutor {

struct PlanFigures {
  int64_t peak_bytes = 0;                // of all tensors of the rank with most
  std::map<std::string, int64_t> items;  // bytes of that peak, by what they are for
  int64_t parameters = 0;                // that train
  std::optional<double> step_seconds{};  // not known: null
};

struct PlannedRun {
  PlanFigures figures;
  int ranks = 1;
  double flops_per_token = 0;  // of a training step, forward and backward; 0 = not planned
};

// In the output folder of a run.
inline std::filesystem::path plan_file(const std::filesystem::path& output) {
  return output / "plan.json";
}

// {"planned": {"peak_bytes", "items", "parameters", "step_seconds"}, "measured": the same or null,
// "flops_per_token", "ranks"}. Throws E0501 or E0502 as write_file_atomic().
void write_plan_file(const std::filesystem::path& path, const PlannedRun& planned,
                     const std::optional<PlanFigures>& measured);

// "plan     peak 1.02 GiB, planned 1.05 GiB (+2.9%): weights 0.4 of 0.4, ... GiB"
std::string plan_line(const PlannedRun& planned, const PlanFigures& measured);

}  // namespace sutor
