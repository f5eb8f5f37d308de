// A decoder-only model as a list of layers that the trainer runs one by one, so that the backward
// pass can stop at the lowest trainable layer and gradients are complete layer by layer. In a
// pipeline, the layers of this rank's stage.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "layers/attention/attention.h"
#include "layers/attention/rope.h"
#include "layers/batch/forward_context.h"
#include "layers/blocks/feed_forward.h"
#include "layers/blocks/rms_norm.h"
#include "layers/storage/parameter_store.h"

namespace sutor {

// h = x + attention(norm(x)), then h + feed_forward(norm(h)); x [T', H].
struct DecoderLayer {
  RmsNorm input_norm;
  std::unique_ptr<Attention> attention;
  RmsNorm post_attention_norm;
  std::unique_ptr<FeedForward> feed_forward;

  at::Tensor attention_half(const at::Tensor& x, const ForwardContext& context,
                            const Rope::Tables& tables,
                            const TensorParallel& tensor_parallel) const;
  at::Tensor feed_forward_half(const at::Tensor& h, ForwardContext& context) const;
};

class CausalModel {
 public:
  // Common names: model.embed_tokens, model.norm, lm_head (or the tied embedding).
  CausalModel(ParameterStore& store, std::unique_ptr<Rope> rope, const NormOptions& norm);

  // The layers to build: global numbers, in order.
  const std::vector<int>& layers() const { return store_.layers(); }
  void add_layer(DecoderLayer layer) { layers_.push_back(std::move(layer)); }

  const Rope& rope() const { return *rope_; }
  const ParallelState& parallel() const { return store_.parallel(); }
  const TensorParallel& tensor_parallel() const { return store_.tensor_parallel(); }
  at::Device device() const { return store_.device(); }  // where batches have to be

  at::Tensor embed(const PackedBatch& batch) const;  // [T', H]; on the first stage
  Rope::Tables tables(const PackedBatch& batch) const { return rope_->tables(batch); }
  // A layer, or a half of it; `layer`: global.
  enum class Part { kLayer, kAttention, kFeedForward };
  at::Tensor layer(int layer, Part part, const at::Tensor& x, ForwardContext& context,
                   const Rope::Tables& tables) const;
  at::Tensor final_norm(const at::Tensor& x, int64_t tokens) const;  // [T', H] -> [T, H]
  Parameter& head() const { return *head_; }  // [V, H], this rank's shard; on the last stage
  // A buffer for what a stage receives for a batch: [T', H].
  at::Tensor stage_input(const PackedBatch& batch) const;

  // The forward pass without autograd, up to the final norm: [T, H] on the last stage, undefined on
  // the others. Appends the tokens of the batch to the cache when there is one. Collective over all
  // ranks that compute the batch.
  at::Tensor hidden_states(ForwardContext& context) const;

 private:
  const ParameterStore& store_;
  Parameter* embedding_;  // null but on the first stage
  std::unique_ptr<Rope> rope_;
  std::vector<DecoderLayer> layers_;  // of layers()
  std::optional<RmsNorm> norm_;       // on the last stage
  Parameter* head_;                   // likewise, else null
};

}  // namespace sutor
