// `sutor inspect` of model directories, config.json and adapters.
#pragma once

#include <filesystem>

#include "launch/verbs/inspect_report.h"

namespace sutor {

// A directory with config.json, with or without weights.
InspectReport inspect_model(const std::filesystem::path& directory);
InspectReport inspect_adapter(const std::filesystem::path& directory);

}  // namespace sutor
