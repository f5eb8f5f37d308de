#include "layers/causal_model.h"

#include <torch/types.h>

#include "csrc/base/profile.h"

namespace sutor {

at::Tensor DecoderLayer::forward(const at::Tensor& x, ForwardContext& context,
                                 const Rope::Tables& tables) const {
  at::Tensor h;
  {
    const ProfileScope scope("attention projections");
    h = x + attention->forward(input_norm.forward(x), context, tables);
  }
  const ProfileScope scope("feed-forward");
  return h + feed_forward->forward(post_attention_norm.forward(h), context);
}

CausalModel::CausalModel(ParameterStore& store, std::unique_ptr<Rope> rope, double norm_eps)
    : embedding_(store.get("model.embed_tokens.weight")),
      rope_(std::move(rope)),
      norm_(store, "model.norm.weight", norm_eps),
      head_(store.model().tied_head ? embedding_ : store.get("lm_head.weight")) {}

at::Tensor CausalModel::embed(const PackedBatch& batch) const {
  return at::embedding(embedding_.value, batch.ids);
}

at::Tensor CausalModel::hidden_states(ForwardContext& context) const {
  at::NoGradGuard no_grad;
  at::Tensor x = embed(context.batch);
  const Rope::Tables rope_tables = tables(context.batch);
  for (int i = 0; i < num_layers(); ++i) x = layer(i, x, context, rope_tables);
  if (context.cache) context.cache->advance(context.batch, context.slots);
  return final_norm(x);
}

}  // namespace sutor
