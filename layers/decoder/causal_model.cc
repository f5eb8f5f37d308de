#include "layers/decoder/causal_model.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/mul.h>

#include "csrc/base/profile.h"
#include "layers/attention/kv_cache.h"
#include "layers/parallel/stage_exchange.h"

namespace sutor {

at::Tensor DecoderLayer::attention_half(const at::Tensor& x, const ForwardContext& context,
                                        const Rope::Tables& tables,
                                        const TensorParallel& tp) const {
  const ProfileScope scope("attention projections");
  const int64_t tokens = context.batch.num_tokens();
  const at::Tensor in = tp.enter(input_norm.forward(x), tokens);
  return x + tp.leave(attention->forward(in, context, tables), tokens);
}

at::Tensor DecoderLayer::feed_forward_half(const at::Tensor& h, ForwardContext& context) const {
  const ProfileScope scope("feed-forward");
  return h + feed_forward->forward(post_attention_norm.forward(h), context);
}

CausalModel::CausalModel(ParameterStore& store, std::unique_ptr<Rope> rope, const NormOptions& norm)
    : store_(store),
      embedding_(parallel().is_first_stage() ? &store.get("model.embed_tokens.weight") : nullptr),
      rope_(std::move(rope)),
      head_(nullptr) {
  rope_->move_to(store.device());
  if (!parallel().is_last_stage()) return;
  norm_.emplace(store, "model.norm.weight", norm);
  head_ = &store.get(store.model().tied_head ? "model.embed_tokens.weight" : "lm_head.weight");
}

at::Tensor CausalModel::embed(const PackedBatch& batch) const {
  const TensorParallel& tp = store_.tensor_parallel();
  const at::Tensor& weight = embedding_->value;
  if (tp.comm().size() == 1) return at::embedding(weight, batch.ids);
  // A rank looks up the tokens of its vocabulary shard; the rows of all others are zero.
  const IndexRange own = tp.rows_of(store_.model().vocab_size);
  const at::Tensor known = at::logical_and(batch.ids >= own.begin, batch.ids < own.end);
  const at::Tensor rows = at::embedding(weight, at::mul(batch.ids - own.begin, known));
  return tp.leave(rows * known.to(rows.scalar_type()).unsqueeze(1), batch.num_tokens());
}

at::Tensor CausalModel::layer(int layer, Part part, const at::Tensor& x, ForwardContext& context,
                              const Rope::Tables& tables) const {
  context.layer = layer;
  const DecoderLayer& at = layers_[static_cast<size_t>(layer - layers().front())];
  if (part == Part::kFeedForward) return at.feed_forward_half(x, context);
  const at::Tensor h = at.attention_half(x, context, tables, store_.tensor_parallel());
  return part == Part::kAttention ? h : at.feed_forward_half(h, context);
}

at::Tensor CausalModel::final_norm(const at::Tensor& x, int64_t tokens) const {
  return store_.tensor_parallel().enter(norm_->forward(x), tokens);
}

at::Tensor CausalModel::stage_input(const PackedBatch& batch) const {
  const int64_t rows = store_.tensor_parallel().rows_between(batch.num_tokens());
  return at::empty({rows, store_.model().hidden_size}, store_.options());
}

at::Tensor CausalModel::hidden_states(ForwardContext& context) const {
  at::NoGradGuard no_grad;
  if (context.cache) {
    context.cached_runs = std::make_shared<ops::AttentionRuns>(
        ops::runs_over(context.batch.doc_offsets,
                       context.cache->key_rows(context.batch, context.slots), device()));
  }
  at::Tensor x;
  if (parallel().is_first_stage()) {
    x = embed(context.batch);
  } else {
    x = stage_input(context.batch);
    receive_from_stage(x, parallel().stage() - 1, parallel().pp(), "activations");
  }
  const Rope::Tables rope_tables = tables(context.batch);
  for (const int index : layers()) x = layer(index, Part::kLayer, x, context, rope_tables);
  if (context.cache) context.cache->advance(context.batch, context.slots);
  if (parallel().is_last_stage()) return final_norm(x, context.batch.num_tokens());
  parallel().pp().await_sends(1, "activations taken");  // never more than one ahead
  send_to_stage(x, parallel().stage() + 1, parallel().pp(), "activations");
  return {};
}

}  // namespace sutor
