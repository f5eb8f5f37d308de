// Opens a model in whichever form lies at a path.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/model_directory.h"

namespace sutor {

// A base store where there is one (is_base_store()), else a Hugging Face directory. Throws as they
// do.
std::unique_ptr<ModelDirectory> open_model(const std::filesystem::path& path);

}  // namespace sutor
