// The recipe's `esft:` section.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sutor {

struct ScoreOptions {
  int64_t tokens = 131072;    // sample tokens to route; -1 = all
  std::string count = "all";  // all | supervised: which positions count
  uint64_t seed = 0;
};

struct SelectOptions {
  std::string method = "token";  // token | gate | random | top_n | budget | none (no routed expert)
  std::optional<double> top_p;   // auto: 0.2 for token, 0.1 for gate
  std::optional<int> n;          // experts a layer for top_n and random
  std::string rank_by = "token";  // score that ranks experts for top_n and budget: token | gate
  std::optional<double> budget;   // share of all routed experts
  uint64_t seed = 0;
  std::optional<std::vector<int>> layers;  // all when absent
  int min_per_layer = 1;
  bool shared_experts = false;
  bool non_expert_modules = false;
};

struct EsftOptions {
  ScoreOptions score;
  SelectOptions select;
  std::optional<std::string> config;  // a ready expert config
  int layer_base = 0;
  std::vector<std::string> also_train;  // patterns on global names
  std::vector<std::string> keep_frozen;
};

}  // namespace sutor
