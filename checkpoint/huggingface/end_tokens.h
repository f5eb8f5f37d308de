// The tokens at which generation stops, as the files of a model directory name them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

constexpr const char* kGenerationConfigFile = "generation_config.json";

// Of `eos_token_id` (an id or a list), or of another key: what is no id counts for nothing.
std::set<int64_t> end_tokens_of(const nlohmann::json& json, std::string_view key = "eos_token_id");

// What generation_config.json and config.json name. Throws E0321 for a generation_config.json that
// is no JSON object.
std::set<int64_t> end_tokens(const ModelDirectory& model);

// The text of a generation_config.json that stops at `trained`, too: the model's with these added
// to `eos_token_id`, or a new one with what config.json says. Nothing when the model's file stops
// at all of them, or the model has none and its config.json names them.
std::optional<std::string> generation_config_with(const ModelDirectory& model,
                                                  const std::set<int64_t>& trained);

}  // namespace sutor
