// The official ESFT expert config: which experts of which layers train, and two flags.
// {"experts": {"<global layer>": [ids...]}, "shared_experts": bool, "non_expert_modules": bool}
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
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

// Throws E0310 with path and reason: not JSON, missing keys, keys that are not layer numbers or
// occur twice, ids that are not integers or occur twice.
ExpertConfig read_expert_config(const std::filesystem::path& path);
// The same for a parsed object from another file, which messages call `where`.
ExpertConfig parse_expert_config(const nlohmann::json& json, const std::string& where);
// The same bytes as the authors' json.dump: one line, separators ", " and ": ", layers in string
// order (1, 10, 11, ..., 2).
std::string to_json(const ExpertConfig& config);
// The same with an object `made_from` at its end, which readers of expert configs ignore: what made
// the config, and the digests `content`, of what the config says in whatever way it is written, and
// `record`, of the other texts.
std::string to_json(const ExpertConfig& config, std::map<std::string, std::string> made_from);
// What of such a text is not as it was written; "" when all is, nothing when it has no `made_from`.
// Throws E0310 as parse_expert_config().
std::optional<std::string> changed_record(const nlohmann::json& json, const std::string& where);
void write_expert_config(const ExpertConfig& config, const std::filesystem::path& path);

// Shifts layer keys that count from `layer_base` down to global numbers, then checks the config
// against the model. `where` (file or recipe key) starts the message. Throws
//   E0311 a layer beyond the model. Keys that run from 1 or more exactly up to num_layers look
//         shifted by one, and the message names the fix `--layer-base 1` / `esft.layer_base: 1`;
//   E0312 a layer without routed experts;  E0313 an expert id out of range;
//   E0315 an empty selection that trains nothing else;  E0202 a negative layer base.
ExpertConfig check_expert_config(const ExpertConfig& config, const ModelInfo& model, int layer_base,
                                 const std::string& where);

}  // namespace sutor
