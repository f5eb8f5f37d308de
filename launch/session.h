// A model on this rank, ready to run: its directory, name table, storage and blocks.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/model_directory.h"
#include "csrc/comm/comm.h"
#include "layers/causal_model.h"
#include "layers/models/models.h"
#include "layers/parameter_store.h"
#include "parallel_state/parallel_state.h"

namespace sutor {

// Headers only: what stands on disk and what the family makes of it.
struct ModelSource {
  explicit ModelSource(const std::filesystem::path& path);

  std::unique_ptr<ModelDirectory> opened;
  const ModelDirectory& directory;
  const Family& family;
  ModelInfo info;
};

struct SessionOptions {
  ParallelOptions parallel;
  at::ScalarType dtype = at::kFloat;
  std::vector<std::string> trained;  // global names; empty = everything frozen
  bool decay_matrices_only = false;
};

class Session {
 public:
  // Collective over `world`. Loads this rank's weights. Both arguments must outlive the session.
  Session(const ModelSource& source, Comm& world, const SessionOptions& options);

  const ModelSource& source() const { return source_; }
  const ParallelState& parallel() const { return parallel_; }
  ParameterStore& store() { return store_; }
  const CausalModel& model() const { return *model_; }

 private:
  void load_weights();

  const ModelSource& source_;
  ParallelState parallel_;
  ParameterStore store_;
  std::unique_ptr<CausalModel> model_;
};

// The recipe's model.dtype; throws E0212 for anything but fp32 and bf16.
at::ScalarType computing_dtype(const std::string& text);

// The base model's digest, computed by rank 0 alone and told to all. Collective.
Digest base_digest(const ModelDirectory& directory, Comm& world);

// One digest over names and bytes of these tensors, computed on all threads.
Digest digest_of(const std::vector<ShardedTensor>& tensors);

}  // namespace sutor
