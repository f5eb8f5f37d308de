// `sutor inspect` of model directories, base stores, config.json and adapters.
#pragma once

#include <filesystem>

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

}  // namespace sutor
