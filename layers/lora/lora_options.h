// The recipe's `lora:` section.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sutor {

struct LoraOptions {
  int rank = 8;
  double alpha = 16;  // the product B A is scaled by alpha / rank
  // attention: its projections; linears: those, dense MLPs and shared experts; experts: the routed
  // experts of the expert config, a pair for each
  std::vector<std::string> targets = {"attention"};
  std::optional<std::string> init;  // a PEFT adapter to start from
};

}  // namespace sutor
