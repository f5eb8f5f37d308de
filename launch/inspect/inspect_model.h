// `sutor inspect` of model directories, base stores, config.json and adapters.
#pragma once

#include <filesystem>
#include <string>

#include "checkpoint/store/base_store.h"
#include "launch/inspect/inspect_report.h"

namespace sutor {

// A directory with config.json, with or without weights.
InspectReport inspect_model(const std::filesystem::path& directory);
// A config.json alone, under any name: sizes as its family computes them.
InspectReport inspect_config(const std::filesystem::path& file);
// Adds the contents of a store; throws when it cannot be opened.
void add_base_store(InspectReport& report, const BaseStore& store);
InspectReport inspect_adapter(const std::filesystem::path& directory);
// Of the peft library; with the alpha that counts, alpha / rank being the factor of its pairs.
InspectReport inspect_peft_adapter(const std::filesystem::path& directory);
// For a message about a path that is nothing known: the checkpoints of a trainer below it; "" when
// there are none.
std::string trainer_text(const std::filesystem::path& path);

}  // namespace sutor
