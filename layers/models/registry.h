// The registry of model families. A family is one file: config, blocks, forward, name table.
// This header is free of torch; layers/decoder/causal_model.h declares what a family builds.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "parallel_state/model/model_info.h"

namespace sutor {

class CausalModel;
class ParameterStore;

struct Family {
  std::string_view name;  // model_type of config.json
  // Reads a Hugging Face config.json (of transformers 4 or 5). Throws E0320 for a value that the
  // family does not support, E0321 for a missing or ill-typed key; both name the key.
  ModelInfo (*info)(const nlohmann::json& config);
  // A config.json of size "tiny" or "small" for init-model.
  nlohmann::json (*preset)(std::string_view size);
  // Builds the blocks over this rank's tensors in `store`.
  std::unique_ptr<CausalModel> (*build)(const nlohmann::json& config, ParameterStore& store);
};

const std::vector<Family>& families();
// By config["model_type"]; throws E0322 listing the known families.
const Family& family_of(const nlohmann::json& config);
const Family& family_named(std::string_view name);

}  // namespace sutor
