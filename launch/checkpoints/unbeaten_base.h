// Whether a training made anything better than the base that it began from, by its evaluations.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace sutor {

// Whether more of the metric ("task.token_acc") is better: of all but losses and perplexities.
bool larger_is_better(const std::string& metric);
// Whether a value of the metric ("task.loss") is better than another one.
bool is_better(const std::string& metric, double value, double than);

struct UnbeatenBase {
  std::string metric;
  double base = 0;     // before training
  double trained = 0;  // the best after it began
  int64_t step = 0;    // of that
  // What the training began from: "the base", or the checkpoint of which it is a fork.
  std::string start = "the base";

  // "no evaluation beat the base: task.loss was 3.1 before training and 3.2 at best (step 40)"
  std::string text() const;
};

// `state`: of a checkpoint (CheckpointMeta::state). Nothing when an evaluation beat the base, when
// there was none of the base or none after it, or when the state says nothing of them.
std::optional<UnbeatenBase> unbeaten_base(const nlohmann::json& state);

}  // namespace sutor
