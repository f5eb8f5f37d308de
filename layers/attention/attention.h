// Self-attention blocks: grouped-query (most families) and multi-head latent (DeepSeek). With
// tensor parallelism a rank computes a partial sum of the output, from its heads.
#pragma once

#include <memory>
#include <optional>

#include "layers/attention/rope.h"
#include "layers/batch/forward_context.h"
#include "layers/blocks/linear.h"
#include "layers/blocks/rms_norm.h"

namespace sutor {

class Attention {
 public:
  virtual ~Attention() = default;
  virtual at::Tensor forward(const at::Tensor& x, const ForwardContext& context,
                             const Rope::Tables& tables) const = 0;  // [T, H] -> [T, H]
};

// An RMS norm of q and of k, before the rotation.
enum class QkNorm {
  kNone,
  kPerHead,   // over each head by itself
  kAllHeads,  // over all heads together
};

struct GqaOptions {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  QkNorm qk_norm = QkNorm::kNone;
  NormOptions norm{};
  std::optional<double> clip{};  // q, k and v are clamped to +-clip, after the norms
  int64_t sliding_window = 0;    // see AttentionOptions
  bool sinks = false;            // one per head: the parameter `sinks`
};
// prefix: model.layers.3.self_attn
std::unique_ptr<Attention> make_gqa_attention(ParameterStore& store, const std::string& prefix,
                                              const GqaOptions& options, const Rope& rope);

// arXiv 2405.04434, section 2.1: keys and values are expanded from a latent; all heads share the
// rotated dimensions of the key.
struct MlaOptions {
  int64_t heads = 0, nope_dim = 0, rope_dim = 0, v_dim = 0, kv_lora_rank = 0;
  bool q_lora = false;
  double scale = 1;  // softmax scale, YaRN's mscale^2 included
  NormOptions latent_norm{};
};
std::unique_ptr<Attention> make_mla_attention(ParameterStore& store, const std::string& prefix,
                                              const MlaOptions& options, const Rope& rope);

}  // namespace sutor
