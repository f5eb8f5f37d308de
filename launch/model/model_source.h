// The model of a job on disk: its directory, what its family makes of config.json, and the adapters
// applied to it. Opens headers only; a session reads the weights.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "checkpoint/huggingface/model_directory.h"
#include "checkpoint/huggingface/tensor_fit.h"
#include "launch/model/overlay.h"
#include "layers/models/registry.h"
#include "recipes/recipe.h"

namespace sutor {

struct ModelSource {
  // Throws E03xx for a directory or an adapter that is broken or does not fit.
  explicit ModelSource(const std::filesystem::path& path,
                       const std::vector<std::string>& adapter_paths = {});
  explicit ModelSource(const ModelOptions& options) : ModelSource(options.path, options.adapters) {}

  // Fills the rows of a tensor of the model, from the last adapter that has it or from the
  // directory. Thread-safe.
  void load(ShardedTensor& destination) const;
  // Of the weights: the directory's digest; with adapters one of theirs too. The first call reads
  // everything, on `threads` threads (0 = all); later ones remember. Throws E0305 when an adapter
  // belongs to another base, E0347 when it is not as it was written. Thread-safe.
  Digest digest(int threads = 0) const;

  // Throws E0321 for a tied head that is stored and differs from the embedding. Says on stderr, the
  // first time only, what one has to know of the model on disk: tensors that are passed over, keys
  // of config.json that are, an index that does not add up. check() and digest() do the same, so
  // that one rank does. Thread-safe.
  void examine() const;

  // That all files are as they were recorded, where they are (E0347), and that adapters belong to
  // this base (E0305) and are as they were written. digest() checks the same. Thread-safe.
  void check(int threads = 0) const;

  // The trained values of a checkpoint of a training on this model; `digest` is the model's
  // (E0305, also when config.json has changed). The result must not outlive this object.
  Overlay checkpoint(const std::filesystem::path& path, const Digest& digest) const;

  std::unique_ptr<ModelDirectory> opened;
  const ModelDirectory& directory;
  const Family& family;
  ModelInfo info;
  std::vector<IgnoredTensors> ignored;
  std::vector<Overlay> adapters;  // later ones take precedence

 private:
  void check_tied_head() const;
  Digest read_digest(int threads) const;

  mutable std::once_flag digest_once_, examined_once_;
  mutable Digest digest_;
};

}  // namespace sutor
