// Opens a model in whichever form lies at a path.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

// A base store where there is one (is_base_store()), else a Hugging Face directory. Throws as they
// do.
std::unique_ptr<ModelDirectory> open_model(const std::filesystem::path& path);

// The folder in which a model's config.json, tokenizer and the like lie: `path` itself, or one
// below a base store. Looks at nothing else.
std::filesystem::path model_files_root(const std::filesystem::path& path);

// The text of a model's config.json, without opening its weights; of a base store checked against
// its digest. `path` may also be that file itself. Throws E0300 when there is none.
std::string read_model_config(const std::filesystem::path& path);

}  // namespace sutor
