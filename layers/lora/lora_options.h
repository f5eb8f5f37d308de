// The recipe's `lora:` section.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sutor {

struct LoraOptions {
  int rank = 8;
  double alpha = 16;  // the product B A counts alpha / rank times
  // attention: its projections; linears: those, dense MLPs and shared experts; experts: the routed
  // experts of the expert config, each on its own
  std::vector<std::string> targets = {"attention"};
  std::optional<std::string> init;  // a PEFT adapter to start from
};

}  // namespace sutor
