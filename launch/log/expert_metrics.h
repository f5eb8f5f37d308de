// What a training step says of the routed experts, ready for each place that shows it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace sutor {

struct ExpertMetrics {
  std::string text;                                     // for the line of the console
  nlohmann::ordered_json json;                          // "experts" of metrics.jsonl
  std::vector<std::pair<std::string, double>> scalars;  // for TensorBoard: "experts/dead" ...
  // Layers x experts as a PNG; empty: none at this step.
  std::string picture;
  int width = 0, height = 0;
};

}  // namespace sutor
