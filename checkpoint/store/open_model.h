// Opens the model at a path, whichever form it has.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

// A base store if is_base_store(), else a Hugging Face directory. Throws what their constructors
// throw; of a directory that records its files also E0342, E0344 and E0347 when one of them is of
// another size, or config.json or the index is not as it was recorded.
std::unique_ptr<ModelDirectory> open_model(const std::filesystem::path& path);

// Throws E0347 when a model directory that records its files is not as it was recorded. Reads all
// of it, on `threads` threads (0 = all); nothing when there is no record. A base store is checked
// where it is read.
void check_recorded_model(const ModelDirectory& model, int threads);

// The folder of a model's config.json, tokenizer and the like: `path` itself, or one below a base
// store. Opens no files.
std::filesystem::path model_files_root(const std::filesystem::path& path);

// The text of a model's config.json, without opening its weights; that of a base store is checked
// against its digest. `path` may also be that file itself. Throws E0300 when there is none.
std::string read_model_config(const std::filesystem::path& path);

}  // namespace sutor
