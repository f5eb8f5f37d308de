#include "layers/attention/attention.h"

#include <cmath>

#include "layers/attention/kv_cache.h"
#include "layers/attention/packed_attention.h"

namespace sutor {
namespace {

class GqaAttention final : public Attention {
 public:
  GqaAttention(ParameterStore& store, const std::string& prefix, const GqaOptions& options,
               const Rope& rope)
      : options_(options),
        rope_(rope),
        q_(store, prefix + ".q_proj"),
        k_(store, prefix + ".k_proj"),
        v_(store, prefix + ".v_proj"),
        o_(store, prefix + ".o_proj"),
        sinks_(options.sinks ? &store.get(prefix + ".sinks") : nullptr) {
    options_.heads = q_.out_features() / options.head_dim;  // of this rank
    options_.kv_heads = k_.out_features() / options.head_dim;
    if (options.qk_norm == QkNorm::kNone) return;
    q_norm_.emplace(store, prefix + ".q_norm.weight", options.norm);
    k_norm_.emplace(store, prefix + ".k_norm.weight", options.norm);
  }

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context,
                     const Rope::Tables& tables) const override {
    const int64_t tokens = x.size(0), d = options_.head_dim;
    const bool by_head = options_.qk_norm == QkNorm::kPerHead;
    const auto normed = [&](const at::Tensor& y, const std::optional<RmsNorm>& norm,
                            int64_t heads) {
      const at::Tensor z = norm ? norm->forward(by_head ? y.view({tokens, heads, d}) : y) : y;
      return clipped(z).view({tokens, heads, d});
    };
    const at::Tensor q = rope_.apply(normed(q_.forward(x), q_norm_, options_.heads), tables, 0);
    const at::Tensor k = rope_.apply(normed(k_.forward(x), k_norm_, options_.kv_heads), tables, 0);
    const at::Tensor v = clipped(v_.forward(x)).view({tokens, options_.kv_heads, d});
    return o_.forward(attend(q, k, v, context).view({tokens, options_.heads * d}));
  }

 private:
  at::Tensor clipped(const at::Tensor& x) const {
    return options_.clip ? at::clamp(x, -*options_.clip, *options_.clip) : x;
  }

  at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const ForwardContext& context) const {
    const AttentionOptions options{.scale = 1.0 / std::sqrt(static_cast<double>(options_.head_dim)),
                                   .sliding_window = options_.sliding_window,
                                   .sinks = sinks_ ? sinks_->value : at::Tensor()};
    if (const ContextSplit* split = context.batch.split.get()) {
      const at::Tensor kv = gather_context(at::cat({k, v}, 1), *split);
      return packed_attention(q, kv.narrow(1, 0, options_.kv_heads), at::Tensor(),
                              kv.narrow(1, options_.kv_heads, options_.kv_heads),
                              context.batch.runs, options);
    }
    if (!context.cache) return packed_attention(q, k, at::Tensor(), v, context.batch.runs, options);
    const int64_t width = options_.kv_heads * options_.head_dim;
    context.cache->append(context.layer, at::cat({k, v}, 1).view({q.size(0), 2 * width}),
                          context.batch, context.slots);
    const at::Tensor rows =
        context.cache->rows(context.layer).view({-1, 2 * options_.kv_heads, options_.head_dim});
    return packed_attention(q, rows.narrow(1, 0, options_.kv_heads), at::Tensor(),
                            rows.narrow(1, options_.kv_heads, options_.kv_heads),
                            context.cached_runs, options);
  }

  GqaOptions options_;
  const Rope& rope_;
  Linear q_, k_, v_, o_;
  Parameter* sinks_;  // null: none
  std::optional<RmsNorm> q_norm_, k_norm_;
};

class MlaAttention final : public Attention {
 public:
  MlaAttention(ParameterStore& store, const std::string& prefix, const MlaOptions& options,
               const Rope& rope)
      : options_(options),
        rope_(rope),
        q_(store, prefix + (options.q_lora ? ".q_b_proj" : ".q_proj")),
        kv_a_(store, prefix + ".kv_a_proj_with_mqa"),
        kv_b_(store, prefix + ".kv_b_proj"),
        o_(store, prefix + ".o_proj"),
        kv_norm_(store, prefix + ".kv_a_layernorm.weight", options.latent_norm) {
    options_.heads = q_.out_features() / (options.nope_dim + options.rope_dim);  // of this rank
    if (!options.q_lora) return;
    q_a_.emplace(store, prefix + ".q_a_proj");
    q_norm_.emplace(store, prefix + ".q_a_layernorm.weight", options.latent_norm);
  }

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context,
                     const Rope::Tables& tables) const override {
    const MlaOptions& o = options_;
    const int64_t tokens = x.size(0);
    const at::Tensor q_in = q_a_ ? q_norm_->forward(q_a_->forward(x)) : x;
    at::Tensor q = q_.forward(q_in).view({tokens, o.heads, o.nope_dim + o.rope_dim});
    q = rope_.apply(q, tables, o.nope_dim);
    const auto latent = kv_a_.forward(x).split_with_sizes({o.kv_lora_rank, o.rope_dim}, -1);
    const at::Tensor k_rope =
        rope_.apply(latent[1].unsqueeze(1), tables, 0).view({tokens, o.rope_dim});
    const at::Tensor kv_latent = kv_norm_.forward(latent[0]);
    const at::Tensor out = context.cache && append(kv_latent, k_rope, context)
                               ? attend_to_latents(q, context)
                               : attend(q, kv_latent, k_rope, context);
    return o_.forward(out.view({tokens, o.heads * o.v_dim}));
  }

 private:
  // All keys are in the batch: expands keys and values from the latents.
  at::Tensor attend(const at::Tensor& q, const at::Tensor& kv_latent, const at::Tensor& k_rope,
                    const ForwardContext& context) const {
    const MlaOptions& o = options_;
    if (const ContextSplit* split = context.batch.split.get()) {
      // Gathers the latents: they are narrower than what they expand to.
      const auto gathered = gather_context(at::cat({kv_latent, k_rope}, 1), *split)
                                .split_with_sizes({o.kv_lora_rank, o.rope_dim}, -1);
      const auto kv = expanded(gathered[0]);
      return packed_attention(q, kv[0], gathered[1], kv[1], context.batch.runs, {.scale = o.scale});
    }
    const auto kv = expanded(kv_latent);
    return packed_attention(q, kv[0], k_rope, kv[1], context.batch.runs, {.scale = o.scale});
  }

  // [T, rank] -> keys [T, heads, nope_dim] and values [T, heads, v_dim].
  std::vector<at::Tensor> expanded(const at::Tensor& kv_latent) const {
    const MlaOptions& o = options_;
    return kv_b_.forward(kv_latent)
        .view({kv_latent.size(0), o.heads, o.nope_dim + o.v_dim})
        .split_with_sizes({o.nope_dim, o.v_dim}, -1);
  }

  // Appends each token's latent and rotated key to the cache. True when a document already had
  // tokens there, so that the batch does not contain all its keys.
  static bool append(const at::Tensor& kv_latent, const at::Tensor& k_rope,
                     const ForwardContext& context) {
    context.cache->append(context.layer, at::cat({kv_latent, k_rope}, 1), context.batch,
                          context.slots);
    for (const int64_t slot : context.slots) {
      if (context.cache->length(slot) > 0) return true;
    }
    return false;
  }

  // Attends to the cache without expanding it: the halves of kv_b are applied to the queries and to
  // the output instead, and all heads share the latents as keys and values.
  at::Tensor attend_to_latents(const at::Tensor& q, const ForwardContext& context) const {
    const MlaOptions& o = options_;
    const auto expand = kv_b_.effective_weight()
                            .view({o.heads, o.nope_dim + o.v_dim, o.kv_lora_rank})
                            .split_with_sizes({o.nope_dim, o.v_dim}, 1);
    const auto parts = q.split_with_sizes({o.nope_dim, o.rope_dim}, -1);
    const at::Tensor q_latent = at::bmm(parts[0].transpose(0, 1), expand[0]).transpose(0, 1);
    const at::Tensor rows = context.cache->rows(context.layer);
    const at::Tensor latents = rows.narrow(1, 0, o.kv_lora_rank).unsqueeze(1);
    const at::Tensor out = packed_attention(
        at::cat({q_latent, parts[1]}, -1), latents, rows.narrow(1, o.kv_lora_rank, o.rope_dim),
        latents, context.cached_runs, {.scale = o.scale});  // [T, heads, rank]
    return at::bmm(out.transpose(0, 1), expand[1].transpose(1, 2)).transpose(0, 1).contiguous();
  }

  MlaOptions options_;
  const Rope& rope_;
  Linear q_, kv_a_, kv_b_, o_;
  RmsNorm kv_norm_;
  std::optional<Linear> q_a_;
  std::optional<RmsNorm> q_norm_;
};

}  // namespace

std::unique_ptr<Attention> make_gqa_attention(ParameterStore& store, const std::string& prefix,
                                              const GqaOptions& options, const Rope& rope) {
  return std::make_unique<GqaAttention>(store, prefix, options, rope);
}

std::unique_ptr<Attention> make_mla_attention(ParameterStore& store, const std::string& prefix,
                                              const MlaOptions& options, const Rope& rope) {
  return std::make_unique<MlaAttention>(store, prefix, options, rope);
}

}  // namespace sutor
