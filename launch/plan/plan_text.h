// A plan as a table for people, and as JSON for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "launch/plan/measured_rate.h"
#include "launch/plan/plan_fit.h"

namespace sutor {

struct PlanReport {
  const PlanBasis& basis;
  const RunPlan& plan;
  DeviceMemory memory;
  std::optional<MeasuredRate> rate;
  std::optional<int64_t> disk_free;
  bool fits = true;
  std::string advice;  // what to change, or what would be better
};

std::string plan_text(const PlanReport& report);
nlohmann::ordered_json plan_json(const PlanReport& report);

}  // namespace sutor
