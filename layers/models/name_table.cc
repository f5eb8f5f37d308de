#include "layers/models/name_table.h"

namespace sutor {

TensorSplit rows(int64_t units, const char* unit) {
  return {TensorSplit::Axis::kRows, units, unit};
}

TensorSplit columns(int64_t units, const char* unit) {
  return {TensorSplit::Axis::kColumns, units, unit};
}

void NameTable::add(const std::string& name, std::vector<int64_t> shape, TensorRole role, int layer,
                    const TensorSplit& split, const std::string& also) {
  TensorEntry entry{
      .name = name, .shape = std::move(shape), .role = role, .layer = layer, .split = split};
  if (!also.empty()) entry.sources = {{.name = name}, {.name = also}};
  map_.add(std::move(entry));
}

void NameTable::linear(const std::string& prefix, int64_t out, int64_t in, bool bias,
                       TensorRole role, int layer, const TensorSplit& split) {
  add(prefix + ".weight", {out, in}, role, layer, split);
  if (!bias) return;
  const bool by_rows = split.axis == TensorSplit::Axis::kRows;
  add(prefix + ".bias", {out}, role, layer, by_rows ? split : TensorSplit());
}

void NameTable::vocabulary(const std::string& name, int64_t vocab, int64_t hidden,
                           TensorRole role) {
  TensorSplit split = rows(vocab, "tokens of the vocabulary");
  split.may_be_uneven = true;
  add(name, {vocab, hidden}, role, -1, split);
}

void NameTable::mlp(const std::string& prefix, int64_t hidden, int64_t width, TensorRole role,
                    int layer) {
  add(prefix + ".gate_proj.weight", {width, hidden}, role, layer, rows(width, "rows"));
  add(prefix + ".up_proj.weight", {width, hidden}, role, layer, rows(width, "rows"));
  add(prefix + ".down_proj.weight", {hidden, width}, role, layer, columns(width, "columns"));
}

void NameTable::experts(const std::string& prefix, const std::string& fused_prefix,
                        int64_t num_experts, int64_t hidden, int64_t width, int layer,
                        const ExpertNames& names) {
  struct Part {
    const char *projection, *own;
    std::vector<int64_t> shape;
    const char* fused;
    int64_t row_begin;
    std::vector<int64_t> fused_shape;
  };
  const Part parts[] = {
      {"gate", names.gate, {width, hidden}, ".gate_up_proj", 0, {num_experts, 2 * width, hidden}},
      {"up", names.up, {width, hidden}, ".gate_up_proj", width, {num_experts, 2 * width, hidden}},
      {"down", names.down, {hidden, width}, ".down_proj", 0, {num_experts, hidden, width}},
  };
  for (int64_t e = 0; e < num_experts; ++e) {
    for (const Part& part : parts) {
      const std::string name = prefix + "." + std::to_string(e) + "." + part.own + ".weight";
      TensorEntry entry{.name = name,
                        .shape = part.shape,
                        .role = TensorRole::kRoutedExpert,
                        .layer = layer,
                        .expert = static_cast<int>(e),
                        .projection = part.projection};
      entry.sources = {{.name = name},
                       {.name = fused_prefix + part.fused,
                        .index = e,
                        .row_begin = part.row_begin,
                        .disk_shape = part.fused_shape}};
      const bool down = entry.projection == "down";
      entry.split = down ? columns(width, "columns") : rows(width, "rows");
      map_.add(std::move(entry));
    }
  }
}

}  // namespace sutor
