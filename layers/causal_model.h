// A decoder-only model as a list of pieces that the trainer drives one by one, so that backward can
// stop at the lowest trained layer and gradients are complete a layer at a time.
#pragma once

#include <memory>
#include <vector>

#include "layers/attention.h"
#include "layers/feed_forward.h"
#include "layers/forward_context.h"
#include "layers/parameter_store.h"
#include "layers/rms_norm.h"
#include "layers/rope.h"

namespace sutor {

// x + attention(norm(x)), then x + feed_forward(norm(x)).
struct DecoderLayer {
  RmsNorm input_norm;
  std::unique_ptr<Attention> attention;
  RmsNorm post_attention_norm;
  std::unique_ptr<FeedForward> feed_forward;

  at::Tensor forward(const at::Tensor& x, ForwardContext& context,
                     const Rope::Tables& tables) const;
};

class CausalModel {
 public:
  // Common names: model.embed_tokens, model.norm, lm_head (or the tied embedding).
  CausalModel(ParameterStore& store, std::unique_ptr<Rope> rope, double norm_eps);

  void add_layer(DecoderLayer layer) { layers_.push_back(std::move(layer)); }
  const Rope& rope() const { return *rope_; }
  int num_layers() const { return static_cast<int>(layers_.size()); }

  at::Tensor embed(const PackedBatch& batch) const;  // [T, H]
  Rope::Tables tables(const PackedBatch& batch) const { return rope_->tables(batch); }
  at::Tensor layer(int index, const at::Tensor& x, ForwardContext& context,
                   const Rope::Tables& tables) const {
    context.layer = index;
    return layers_[index].forward(x, context, tables);
  }
  at::Tensor final_norm(const at::Tensor& x) const { return norm_.forward(x); }
  Parameter& head() const { return head_; }  // [vocab, H]

  // The whole forward pass without autograd, up to the final norm. With a cache: its sequences then
  // hold the batch's tokens too.
  at::Tensor hidden_states(ForwardContext& context) const;

 private:
  Parameter& embedding_;
  std::unique_ptr<Rope> rope_;
  std::vector<DecoderLayer> layers_;
  RmsNorm norm_;
  Parameter& head_;
};

}  // namespace sutor
