// Which files of a base a merged export copies besides the shards. Other copies of the weights are
// left out: they have the untrained values.
#pragma once

#include <filesystem>
#include <set>

#include "checkpoint/huggingface/model_directory.h"

namespace sutor {

struct CopiedFiles {
  std::set<std::filesystem::path> copied;    // relative to files_root()
  std::set<std::filesystem::path> left_out;  // because they have, or index, other weights
};

// With `anything_trained` it leaves out weights that the model directory does not use, in whatever
// format, what belongs to them, adapters, and an older sutor_export.json or sutor_files.json; with
// `new_headers` also config.json and the index.
CopiedFiles copied_files(const ModelDirectory& base, bool anything_trained, bool new_headers);

}  // namespace sutor
