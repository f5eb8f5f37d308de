// Converts a model between its two forms on disk, over the ranks of a job.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "csrc/comm/comm.h"

namespace sutor {

struct ConvertRequest {
  std::filesystem::path from, to;
  int64_t max_file_bytes = 0;  // of a store's data files
  bool verify = false;         // compare with the source before the result gets its name
  bool overwrite = false;      // replace an earlier model
};

// Collective. A Hugging Face directory becomes a base store, a base store becomes the directory
// that it was made from. The ranks share the files, and a later start keeps the complete ones;
// neither changes what is written. Prints on rank 0. Throws E0220 when `to` exists, E0401 when
// another job is writing it.
void convert_model(const ConvertRequest& request, Comm& world, const nlohmann::json& provenance);

}  // namespace sutor
