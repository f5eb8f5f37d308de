// Builds a family's TensorMap: the names that Hugging Face gives, with shapes, roles, and how
// tensor parallelism may divide each.
#pragma once

#include <string>
#include <vector>

#include "parallel_state/model/model_info.h"

namespace sutor {

// Splits: `rows` for matrices whose outputs are divided, `columns` for those whose inputs are.
TensorSplit rows(int64_t units, const char* unit);
TensorSplit columns(int64_t units, const char* unit);

// What the three matrices of a routed expert are called, without ".weight".
struct ExpertNames {
  const char* gate = "gate_proj";
  const char* up = "up_proj";
  const char* down = "down_proj";
};

// How a directory holds the routed experts of a layer.
enum class ExpertForm {
  kMatrices,          // three matrices an expert, or stacks of them
  kTransposedStacks,  // stacks in which every matrix lies transposed, and their biases
};

struct ExpertSizes {
  int64_t experts, hidden, width;
};

class NameTable {
 public:
  explicit NameTable(TensorMap& map) : map_(map) {}

  // `also`: another name under which a directory may hold it.
  void add(const std::string& name, std::vector<int64_t> shape, TensorRole role, int layer = -1,
           const TensorSplit& split = {}, const std::string& also = "");
  // The weight [out, in] of a linear and, with `bias`, its bias, which is divided as the outputs
  // are.
  void linear(const std::string& prefix, int64_t out, int64_t in, bool bias, TensorRole role,
              int layer, const TensorSplit& split = {});
  // The embedding or the head: [vocab, hidden].
  void vocabulary(const std::string& name, int64_t vocab, int64_t hidden, TensorRole role);
  // gate_proj, up_proj [width, hidden] and down_proj [hidden, width] under `prefix`.
  void mlp(const std::string& prefix, int64_t hidden, int64_t width, TensorRole role, int layer);
  // All routed experts of a layer, `prefix` being e.g. model.layers.3.mlp.experts: a 2-D tensor an
  // expert and projection, or fused on disk under `fused_prefix` as gate_up_proj [E, 2 width,
  // hidden], rows gate then up, and down_proj [E, hidden, width].
  void experts(const std::string& prefix, const std::string& fused_prefix, const ExpertSizes& sizes,
               int layer, const ExpertNames& names = {});
  // The same tensors and a bias beside each. On disk only in stacks: gate_up_proj [E, hidden, 2
  // width], whose columns are gate and up in turns, gate_up_proj_bias [E, 2 width] likewise,
  // down_proj [E, width, hidden], down_proj_bias [E, hidden].
  void transposed_experts(const std::string& prefix, const ExpertSizes& sizes, int layer);

 private:
  TensorMap& map_;
};

}  // namespace sutor
