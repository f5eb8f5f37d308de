#include "layers/decoder/name_table.h"

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

namespace {

// One tensor of expert e, with this rank's part of the width.
TensorEntry expert_tensor(const std::string& name, std::vector<int64_t> shape, int layer, int64_t e,
                          const char* projection, const TensorSplit& split, DiskSource source) {
  return {.name = name,
          .shape = std::move(shape),
          .role = TensorRole::kRoutedExpert,
          .layer = layer,
          .expert = static_cast<int>(e),
          .projection = projection,
          .sources = {std::move(source)},
          .split = split};
}

}  // namespace

void NameTable::experts(const std::string& prefix, const std::string& fused_prefix,
                        const ExpertSizes& sizes, int layer, const ExpertNames& names) {
  const auto [count, hidden, width] = sizes;
  struct Matrix {
    const char *projection, *own;
    std::vector<int64_t> shape;
    TensorSplit split;
    DiskSource stack;
  };
  const DiskSource both{.name = fused_prefix + ".gate_up_proj",
                        .disk_shape = {count, 2 * width, hidden}};
  DiskSource up = both;
  up.row_begin = width;
  const Matrix matrices[] = {
      {"gate", names.gate, {width, hidden}, rows(width, "rows"), both},
      {"up", names.up, {width, hidden}, rows(width, "rows"), up},
      {"down",
       names.down,
       {hidden, width},
       columns(width, "columns"),
       {.name = fused_prefix + ".down_proj", .disk_shape = {count, hidden, width}}},
  };
  for (int64_t e = 0; e < count; ++e) {
    for (const Matrix& matrix : matrices) {
      const std::string name = prefix + "." + std::to_string(e) + "." + matrix.own + ".weight";
      TensorEntry entry = expert_tensor(name, matrix.shape, layer, e, matrix.projection,
                                        matrix.split, {.name = name});
      entry.sources.push_back(matrix.stack);
      entry.sources.back().index = e;
      map_.add(std::move(entry));
    }
  }
}

void NameTable::transposed_experts(const std::string& prefix, const ExpertSizes& sizes, int layer) {
  const auto [count, hidden, width] = sizes;
  for (int64_t e = 0; e < count; ++e) {
    const auto add_projection = [&](const char* projection, int64_t out, int64_t in,
                                    const std::string& stack, int64_t begin, int64_t step) {
      const std::string name =
          prefix + "." + std::to_string(e) + "." + std::string(projection) + "_proj.";
      const bool down = step == 1;
      DiskSource source{.name = prefix + stack,
                        .index = e,
                        .row_begin = begin,
                        .row_step = step,
                        .transposed = true,
                        .disk_shape = {count, in, out * step}};
      map_.add(expert_tensor(name + "weight", {out, in}, layer, e, projection,
                             down ? columns(width, "columns") : rows(width, "rows"), source));
      source.name += "_bias";
      source.transposed = false;
      source.disk_shape = {count, out * step};
      map_.add(expert_tensor(name + "bias", {out}, layer, e, projection,
                             down ? TensorSplit() : rows(width, "rows"), source));
    };
    add_projection("gate", width, hidden, ".gate_up_proj", 0, 2);
    add_projection("up", width, hidden, ".gate_up_proj", 1, 2);
    add_projection("down", hidden, width, ".down_proj", 0, 1);
  }
}

}  // namespace sutor
