// Verifies that a base store, a model directory, a checkpoint or an adapter is as it was written:
// computes every stored digest again. Continues after corruption, so that all of it is reported.
// Changes nothing; needs a few MiB of memory per thread, for a checkpoint one tile per thread.
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
  int64_t bytes = 0;                               // read and checked, of all files
  std::string checked{};                           // what was compared with what, in words
  std::optional<Digest> weights{};                 // ModelDirectory::digest()
  std::map<std::string, Digest> tensor_digests{};  // of models and adapters
  std::vector<Corruption> corruption{};
};

// `model`: made by the family from config.json; null when sutor does not know the family, and then
// the tensors' names and shapes are not checked. `threads`: 0 = all.
Verification verify_model(const std::filesystem::path& path, const TensorMap* model, int threads);
Verification verify_base_store(const std::filesystem::path& path, const TensorMap* model,
                               int threads);
Verification verify_checkpoint(const std::filesystem::path& path, int threads);
// `model`: of the config.json in the folder, if there is one.
Verification verify_adapter_files(const std::filesystem::path& path, int threads,
                                  const TensorMap* model = nullptr);
Verification verify_peft_adapter(const std::filesystem::path& path, int threads);

}  // namespace sutor
