// A model on this rank, ready to run: directory, name table, storage and blocks.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/export/peft_adapter.h"
#include "csrc/comm/comm.h"
#include "launch/model/model_source.h"
#include "launch/model/weight_loading.h"
#include "layers/decoder/causal_model.h"
#include "layers/storage/parameter_store.h"
#include "parallel_state/parallel_state.h"
#include "recipes/recipe.h"

namespace sutor {

struct SessionOptions {
  ParallelOptions parallel;
  at::ScalarType dtype = at::kFloat;
  bool decay_matrices_only = false;
  ExpertRanks expert_ranks = {};              // the same on all ranks
  int64_t bucket_elements = kBucketElements;  // of gradients that are reduced together
  at::Device device = at::kCPU;               // of all tensors
  std::string device_text = "cpu";            // and why
  // Initial values of low-rank pairs: from a seed, or from a peft adapter.
  uint64_t lora_seed = 0;
  std::optional<std::string> lora_init = {};
};

class Session {
 public:
  // Collective over `world`, the control communicator; tensors on the GPUs of several ranks go over
  // NCCL. Loads this rank's weights and no others. `model`: the source's tensors
  // and those that the training adds to them (TrainPlan::model). What is passed by reference must
  // outlive the session, but for the options.
  Session(const ModelSource& source, const ModelInfo& model, const TrainableSet& trainable,
          Comm& world, const SessionOptions& options);
  // Nothing trains.
  Session(const ModelSource& source, Comm& world, const SessionOptions& options);

  const ModelSource& source() const { return source_; }
  const ParallelState& parallel() const { return parallel_; }
  ParameterStore& store() { return store_; }
  const CausalModel& model() const { return *model_; }
  const WeightReads& weight_reads() const { return weight_reads_; }
  const std::string& device_text() const { return device_text_; }
  // Fills rows of a tensor of the model, or of a low-rank pair, with their values before any
  // training.
  void load_initial(ShardedTensor& destination) const;
  // Replaces weights by trained values; only in a session in which nothing trains.
  void apply(const Overlay& overlay);

 private:
  void load_weights();

  const ModelSource& source_;
  uint64_t lora_seed_;
  std::string device_text_;
  std::optional<PeftAdapter> lora_init_;
  std::unique_ptr<Comm> gpu_world_;  // for tensors on GPUs of several ranks; else null
  ParallelState parallel_;
  ParameterStore store_;
  std::unique_ptr<CausalModel> model_;
  WeightReads weight_reads_;
};

// "1.2 GiB of 3.4 GiB read by this rank (0.9 GiB to 1.2 GiB a rank, 3.4 GiB on the node), from a
// base store".
std::string weights_text(const Session& session);

// The recipe's model.dtype; throws E0212 for anything but fp32 and bf16.
at::ScalarType computing_dtype(const std::string& text);

// The base model's digest, told to all by rank 0, which alone reads the weights for it, once for a
// source however often this is called. Collective.
Digest base_digest(const ModelSource& source, Comm& world);

// ModelSource::check() by rank 0, for those who need no base_digest(), which checks the same.
// Collective.
void check_source(const ModelSource& source, Comm& world);

// One digest of the names and bytes of these tensors, computed on all threads.
Digest digest_of(const std::vector<ShardValues>& tensors);

// What the recipe says of a session: layout, dtype, and the device that its key and the machines of
// all ranks allow. Collective over `world`.
SessionOptions session_options(const Recipe& recipe, Comm& world);

}  // namespace sutor
