// Builds a family's TensorMap: Hugging Face's names, with shapes, roles, and how tensor parallelism
// may shard each tensor.
#pragma once

#include <string>
#include <vector>

#include "parallel_state/model/model_info.h"

namespace sutor {

// Splits: `rows` for matrices whose outputs are sharded, `columns` for those whose inputs are.
TensorSplit rows(int64_t units, const char* unit);
TensorSplit columns(int64_t units, const char* unit);

// Names of the three matrices of a routed expert, without ".weight".
struct ExpertNames {
  const char* gate = "gate_proj";
  const char* up = "up_proj";
  const char* down = "down_proj";
};

// How a directory stores the routed experts of a layer.
enum class ExpertForm {
  kMatrices,          // three matrices per expert, or stacks of them
  kTransposedStacks,  // stacks of transposed matrices, and their biases
};

struct ExpertSizes {
  int64_t experts, hidden, width;
};

class NameTable {
 public:
  explicit NameTable(TensorMap& map) : map_(map) {}

  // `also`: another name under which a directory may have the tensor.
  void add(const std::string& name, std::vector<int64_t> shape, TensorRole role, int layer = -1,
           const TensorSplit& split = {}, const std::string& also = "");
  // The weight [out, in] of a linear and, with `bias`, its bias, which is sharded as the outputs
  // are.
  void linear(const std::string& prefix, int64_t out, int64_t in, bool bias, TensorRole role,
              int layer, const TensorSplit& split = {});
  // The embedding or the head: [V, H].
  void vocabulary(const std::string& name, int64_t vocab, int64_t hidden, TensorRole role);
  // gate_proj and up_proj [I, H], and down_proj [H, I], under `prefix`.
  void mlp(const std::string& prefix, int64_t hidden, int64_t width, TensorRole role, int layer);
  // All routed experts of a layer, `prefix` being e.g. model.layers.3.mlp.experts: a matrix per
  // expert and projection, or fused on disk under `fused_prefix` as gate_up_proj [E, 2I, H], rows
  // of gate then of up, and down_proj [E, H, I].
  void experts(const std::string& prefix, const std::string& fused_prefix, const ExpertSizes& sizes,
               int layer, const ExpertNames& names = {});
  // The same tensors, each with a bias. On disk only as stacks: gate_up_proj [E, H, 2I], whose
  // columns alternate between gate and up, gate_up_proj_bias [E, 2I] likewise, down_proj [E, I, H],
  // down_proj_bias [E, H].
  void transposed_experts(const std::string& prefix, const ExpertSizes& sizes, int layer);

 private:
  TensorMap& map_;
};

}  // namespace sutor
