// Self-attention blocks: grouped-query (most families) and multi-head latent (DeepSeek). With
// tensor parallelism a rank computes its heads' part of the output: the parts of all ranks add up.
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
                             const Rope::Tables& tables) const = 0;  // [T, H]
};

// An RMS norm on q and on k, before the rotation.
enum class QkNorm {
  kNone,
  kPerHead,   // of each head
  kAllHeads,  // over all heads together
};

struct GqaOptions {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  QkNorm qk_norm = QkNorm::kNone;
  NormOptions norm{};
  std::optional<double> clip{};  // q, k and v are clamped to +-clip, after the norms
  int64_t sliding_window = 0;    // see AttentionOptions
  bool sinks = false;            // of each head: the parameter `sinks`
};
// prefix: model.layers.3.self_attn
std::unique_ptr<Attention> make_gqa_attention(ParameterStore& store, const std::string& prefix,
                                              const GqaOptions& options, const Rope& rope);

// arXiv 2405.04434, section 2.1: keys and values are expanded from a latent; a rotated part of the
// key is shared by all heads.
struct MlaOptions {
  int64_t heads = 0, nope_dim = 0, rope_dim = 0, v_dim = 0, kv_lora_rank = 0;
  bool q_lora = false;
  double scale = 1;  // softmax scale, YaRN's mscale^2 included
  NormOptions latent_norm{};
};
std::unique_ptr<Attention> make_mla_attention(ParameterStore& store, const std::string& prefix,
                                              const MlaOptions& options, const Rope& rope);

}  // namespace sutor
