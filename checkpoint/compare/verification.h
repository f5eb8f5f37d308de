// Proves that a base store, a model directory, a checkpoint or an adapter is as it was written:
// every digest that it stores is computed again. Goes on after damage, so that all of it is named.
// Nothing is changed; a few MiB of memory a thread, one tile of a checkpoint a thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/format/corruption.h"
#include "csrc/base/hash.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

struct Verification {
  std::string kind{};
  std::string path{};
  int64_t tensors = 0;
  int64_t bytes = 0;                               // that were read and checked: of all files
  std::string checked{};                           // what the digests of that were compared with
  std::optional<Digest> weights{};                 // ModelDirectory::digest()
  std::map<std::string, Digest> tensor_digests{};  // of models and adapters
  std::vector<Corruption> corruption{};
};

// `model`: what the family makes of config.json; null when sutor does not know it, and then the
// tensors' names and shapes are not compared with anything. `threads`: 0 = all.
Verification verify_model(const std::filesystem::path& path, const TensorMap* model, int threads);
Verification verify_base_store(const std::filesystem::path& path, const TensorMap* model,
                               int threads);
Verification verify_checkpoint(const std::filesystem::path& path, int threads);
Verification verify_adapter_files(const std::filesystem::path& path, int threads);
Verification verify_peft_adapter(const std::filesystem::path& path);

}  // namespace sutor
