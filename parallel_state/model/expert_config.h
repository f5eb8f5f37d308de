// The official ESFT expert config: which experts of which layers train, and two flags.
// {"experts": {"<global layer>": [ids...]}, "shared_experts": bool, "non_expert_modules": bool}
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "parallel_state/model/model_info.h"

namespace sutor {

struct ExpertConfig {
  std::map<int, std::vector<int>> experts;  // global layer -> expert ids, in the order of selection
  bool shared_experts = false;
  bool non_expert_modules = false;

  bool trains_anything() const;
  int64_t num_experts() const;  // over all layers
};

// Throws E0310 with path and reason: not JSON, missing keys, keys that are no layer numbers or
// stand twice, ids that are no integers or stand twice.
ExpertConfig read_expert_config(const std::filesystem::path& path);
// The same of a parsed text that is part of another file: `where`, for messages.
ExpertConfig parse_expert_config(const nlohmann::json& json, const std::string& where);
// Same bytes as the authors' json.dump: one line, ", " and ": " separators, layers in string order
// (1, 10, 11, ..., 2).
std::string to_json(const ExpertConfig& config);
void write_expert_config(const ExpertConfig& config, const std::filesystem::path& path);

// Shifts layer keys that count from `layer_base` down to global numbers, then checks the config
// against the model. `where` (file or recipe key) starts the message. Throws
//   E0311 a layer beyond the model. When the keys run from 1 or more exactly up to num_layers they
//   look
//         shifted by one, and the fix `--layer-base 1` / `esft.layer_base: 1` is named;
//   E0312 a layer without routed experts;  E0313 an expert id out of range;
//   E0315 an empty selection that trains nothing else;  E0202 a negative layer base.
ExpertConfig check_expert_config(const ExpertConfig& config, const ModelInfo& model, int layer_base,
                                 const std::string& where);

}  // namespace sutor
