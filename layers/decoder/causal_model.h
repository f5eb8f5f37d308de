// A decoder-only model as a list of pieces that the trainer drives one by one, so that backward can
// stop at the lowest trained layer and gradients are complete a layer at a time. Of a pipeline, the
// pieces of this rank's stage. T: tokens of the batch; T': rows between regions, see
// layers/parallel/tensor_parallel.h.
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

// x + attention(norm(x)), then x + feed_forward(norm(x)); x [T', H].
struct DecoderLayer {
  RmsNorm input_norm;
  std::unique_ptr<Attention> attention;
  RmsNorm post_attention_norm;
  std::unique_ptr<FeedForward> feed_forward;

  at::Tensor forward(const at::Tensor& x, ForwardContext& context, const Rope::Tables& tables,
                     const TensorParallel& tensor_parallel) const;
};

class CausalModel {
 public:
  // Common names: model.embed_tokens, model.norm, lm_head (or the tied embedding).
  CausalModel(ParameterStore& store, std::unique_ptr<Rope> rope, const NormOptions& norm);

  // The layers to build, global numbers in order, and where they go.
  const std::vector<int>& layers() const { return store_.layers(); }
  void add_layer(DecoderLayer layer) { layers_.push_back(std::move(layer)); }

  const Rope& rope() const { return *rope_; }
  const ParallelState& parallel() const { return store_.parallel(); }
  const TensorParallel& tensor_parallel() const { return store_.tensor_parallel(); }

  at::Tensor embed(const PackedBatch& batch) const;  // [T', H]; on the first stage
  Rope::Tables tables(const PackedBatch& batch) const { return rope_->tables(batch); }
  // `layer`: global.
  at::Tensor layer(int layer, const at::Tensor& x, ForwardContext& context,
                   const Rope::Tables& tables) const;
  at::Tensor final_norm(const at::Tensor& x, int64_t tokens) const;  // [T', H] -> [T, H]
  Parameter& head() const { return *head_; }  // [vocab, H] or this rank's rows; on the last stage
  // What a stage receives for a batch: room for [T', H].
  at::Tensor stage_input(const PackedBatch& batch) const;

  // The whole forward pass without autograd, up to the final norm: [T, H] on the last stage,
  // undefined on the others. With a cache: its sequences then hold the batch's tokens too.
  // Collective over all ranks that compute the batch.
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
