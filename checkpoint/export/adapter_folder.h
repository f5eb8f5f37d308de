// The folder of an adapter. A training by transformers leaves more in it than tensors and expert
// config: config.json of the model, tokenizer, state of the trainer. It is the adapter all the
// same.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sutor {

constexpr const char* kExpertConfigFile = "expert_cfg.json";

// Whether a folder is an adapter: it has expert_cfg.json and, when there is a config.json beside,
// not all tensors of a model.
bool is_adapter(const std::filesystem::path& path);

// What is in an adapter's folder and no part of the adapter, by name: what a trainer left there.
std::vector<std::filesystem::path> files_beside(const std::filesystem::path& adapter);

// The folders that a trainer of transformers made below its output (checkpoint-100, ...,
// last_checkpoint), by name.
std::vector<std::string> trainer_checkpoints(const std::filesystem::path& output);

// The name that the model's modules give a tensor of an adapter: the first published adapters start
// below `model.`.
std::string global_adapter_name(const std::string& name);

}  // namespace sutor
