// Builds a family's TensorMap: the names that Hugging Face gives, with shapes and roles.
#pragma once

#include <string>

#include "parallel_state/model_info.h"

namespace sutor {

class NameTable {
 public:
  explicit NameTable(TensorMap& map) : map_(map) {}

  void add(const std::string& name, std::vector<int64_t> shape, TensorRole role, int layer = -1);
  // gate_proj, up_proj [width, hidden] and down_proj [hidden, width] under `prefix`.
  void mlp(const std::string& prefix, int64_t hidden, int64_t width, TensorRole role, int layer);
  // All routed experts of a layer, `prefix` being e.g. model.layers.3.mlp.experts: a 2-D tensor an
  // expert and projection, or fused on disk as gate_up_proj [E, 2 width, hidden], rows gate then
  // up, and down_proj [E, hidden, width].
  void experts(const std::string& prefix, int64_t num_experts, int64_t hidden, int64_t width,
               int layer);

 private:
  TensorMap& map_;
};

}  // namespace sutor
