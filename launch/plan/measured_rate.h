// How fast a training computes: from another run, or as the user says.
#pragma once

#include <optional>
#include <string>

#include "launch/plan/run_plan.h"

namespace sutor {

// seconds a step = tokens a step x FLOPs a token / (ranks x FLOPs a second and rank), or tokens a
// step / tokens a second.
struct MeasuredRate {
  std::string source;          // for whoever reads it
  double flops_a_rank = 0;     // a second; 0: the rate is one of tokens
  double tokens_a_second = 0;  // of the whole job
  double seconds_a_step(const RunPlan& plan) const;
};

// `text`: tokens a second, the output folder of a run, or its metrics.jsonl. The steps but the
// first count; the FLOPs of a token are those of the run's plan.json. Throws E0202 for a rate that
// is none, and for a file that is not there or says nothing.
MeasuredRate measured_rate(const std::string& text);

// Of the run in this output folder, when it has steps and a plan.
std::optional<MeasuredRate> own_rate(const std::string& output);

}  // namespace sutor
