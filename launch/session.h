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

// Bytes of weights that the ranks fetched from the disk to fill their own parts of the model.
struct WeightReads {
  std::vector<int64_t> of_rank;  // of the world
  int64_t stored = 0;            // of all tensors together
};

class Session {
 public:
  // Collective over `world`. Loads this rank's weights and no others. `source` and `world` must
  // outlive the session.
  Session(const ModelSource& source, Comm& world, const SessionOptions& options);

  const ModelSource& source() const { return source_; }
  const ParallelState& parallel() const { return parallel_; }
  ParameterStore& store() { return store_; }
  const CausalModel& model() const { return *model_; }
  const WeightReads& weight_reads() const { return weight_reads_; }

 private:
  void load_weights();

  const ModelSource& source_;
  ParallelState parallel_;
  ParameterStore store_;
  std::unique_ptr<CausalModel> model_;
  WeightReads weight_reads_;
};

// "1.2 GiB of 3.4 GiB read by this rank (0.9 to 1.2 GiB a rank), from a base store".
std::string weights_text(const Session& session);

// The recipe's model.dtype; throws E0212 for anything but fp32 and bf16.
at::ScalarType computing_dtype(const std::string& text);

// The base model's digest, computed by rank 0 alone and told to all. Collective.
Digest base_digest(const ModelDirectory& directory, Comm& world);

// One digest over names and bytes of these tensors, computed on all threads.
Digest digest_of(const std::vector<ShardedTensor>& tensors);

}  // namespace sutor
