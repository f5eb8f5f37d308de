// Two layers of routed experts that are stacked on disk as in GPT-OSS: gate and up as alternating
// rows of one matrix, biases, and the matrices either transposed in BF16 or as MXFP4. Both forms
// have the same values.
#pragma once

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/support/small_model.h"

namespace sutor::testing {

struct RawTensor {
  std::string name, dtype_name;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

inline void write_raw(const std::filesystem::path& path, const std::vector<RawTensor>& tensors) {
  std::vector<SafetensorsDeclaration> declarations;
  for (const RawTensor& tensor : tensors) {
    declarations.push_back({tensor.name, tensor.dtype_name, tensor.shape});
  }
  SafetensorsWriter writer(path, declarations);
  for (const RawTensor& tensor : tensors) writer.append(tensor.bytes);
  writer.finish();
}

// A stack of matrices [experts, rows, columns] of four-bit numbers.
struct StackedMatrix {
  int64_t experts, rows, columns;
  std::vector<uint8_t> codes;   // one per element
  std::vector<uint8_t> scales;  // one per 32 elements

  StackedMatrix(int64_t experts, int64_t rows, int64_t columns, unsigned seed)
      : experts(experts), rows(rows), columns(columns) {
    std::mt19937 random(seed);
    codes.resize(static_cast<size_t>(experts * rows * columns));
    scales.resize(codes.size() / 32);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % 16);
    for (uint8_t& scale : scales) scale = static_cast<uint8_t>(118 + random() % 6);
    // A largest element of 4 or 6 in every group, so that quantising again gives the same scale.
    for (size_t i = 0; i < codes.size(); i += 32) codes[i] = 6 + random() % 2;
  }
  float value(int64_t expert, int64_t row, int64_t column) const {
    constexpr std::array<double, 8> kMagnitudes = {0, .5, 1, 1.5, 2, 3, 4, 6};
    const auto at = static_cast<size_t>((expert * rows + row) * columns + column);
    const double magnitude = std::ldexp(kMagnitudes[codes[at] & 7], scales[at / 32] - 127);
    return static_cast<float>(codes[at] & 8 ? -magnitude : magnitude);
  }
  std::vector<RawTensor> mxfp4(const std::string& name) const {
    std::vector<std::byte> blocks(codes.size() / 2), bytes(scales.size());
    for (size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = static_cast<std::byte>(codes[2 * i] | codes[2 * i + 1] << 4);
    }
    std::memcpy(bytes.data(), scales.data(), scales.size());
    return {{name + "_blocks", "U8", {experts, rows, columns / 32, 16}, blocks},
            {name + "_scales", "U8", {experts, rows, columns / 32}, bytes}};
  }
  RawTensor bf16(const std::string& name) const {
    std::vector<float> values;
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t c = 0; c < columns; ++c) {
        for (int64_t r = 0; r < rows; ++r) values.push_back(value(e, r, c));
      }
    }
    return {name, "BF16", {experts, columns, rows}, to_bytes(values, DType::kBF16)};
  }
};

class StackedModel {
 public:
  static constexpr int kLayers = 2, kStacked = 3;
  static constexpr int64_t kIn = 64, kInner = 32;

  StackedModel() {
    const unsigned seeds[] = {1, 2};
    for (const unsigned seed : seeds) {
      gate_up_.emplace_back(kStacked, 2 * kInner, kIn, seed);
      down_.emplace_back(kStacked, kIn, kInner, seed + 10);
    }
    map_.add({.name = "model.embed_tokens.weight", .shape = {8, kIn}});
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int expert = 0; expert < kStacked; ++expert) add_expert(layer, expert);
    }
  }

  const TensorMap& map() const { return map_; }
  static std::string stack(int layer) {
    return "model.layers." + std::to_string(layer) + ".mlp.experts.";
  }
  static std::string name(int layer, int expert, const std::string& projection,
                          const std::string& kind = "weight") {
    return stack(layer) + std::to_string(expert) + "." + projection + "_proj." + kind;
  }

  // The values of a tensor of an expert, or of the embedding.
  std::vector<float> values(const TensorEntry& entry) const {
    std::vector<float> values;
    const int64_t columns = entry.shape.size() > 1 ? entry.shape[1] : 1;
    for (int64_t r = 0; r < entry.shape[0]; ++r) {
      for (int64_t c = 0; c < columns; ++c) values.push_back(value(entry, r, c));
    }
    return values;
  }

  // All tensors in stored form; a layer is in MXFP4 when `in_mxfp4` says so.
  std::vector<RawTensor> stored(const std::array<bool, kLayers>& in_mxfp4) const {
    std::vector<RawTensor> tensors;
    const TensorEntry& embedding = *map_.find("model.embed_tokens.weight");
    tensors.push_back(
        {embedding.name, "BF16", embedding.shape, to_bytes(values(embedding), DType::kBF16)});
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const bool down : {false, true}) {
        const StackedMatrix& matrix = (down ? down_ : gate_up_)[static_cast<size_t>(layer)];
        const std::string at = stack(layer) + (down ? "down_proj" : "gate_up_proj");
        if (in_mxfp4[static_cast<size_t>(layer)]) {
          for (RawTensor& tensor : matrix.mxfp4(at)) tensors.push_back(std::move(tensor));
        } else {
          tensors.push_back(matrix.bf16(at));
        }
        tensors.push_back(bias(layer, down, at + "_bias"));
      }
    }
    return tensors;
  }

  std::filesystem::path write(const TempDir& dir, const std::string& name,
                              const std::array<bool, kLayers>& in_mxfp4) const {
    return write(dir, name, stored(in_mxfp4), in_mxfp4[0] || in_mxfp4[1]);
  }
  static std::filesystem::path write(const TempDir& dir, const std::string& name,
                                     const std::vector<RawTensor>& tensors, bool quantised) {
    nlohmann::ordered_json config = {{"model_type", "stacked"}, {"dtype", "bfloat16"}};
    if (quantised) {
      config["quantization_config"] = {{"quant_method", "mxfp4"},
                                       {"modules_to_not_convert", {"lm_head"}}};
    }
    dir.write(name + "/config.json", config.dump(2) + "\n");
    write_raw(dir / name / kSingleWeightsFile, tensors);
    return dir / name;
  }

 private:
  void add_expert(int layer, int expert) {
    for (const std::string projection : {"gate", "up", "down"}) {
      for (const std::string kind : {"weight", "bias"}) {
        const bool down = projection == "down", matrix = kind == "weight";
        TensorEntry entry{.name = name(layer, expert, projection, kind)};
        entry.role = TensorRole::kRoutedExpert;
        entry.layer = layer;
        entry.expert = expert;
        entry.projection = projection;
        const int64_t rows = down ? kIn : kInner, columns = down ? kInner : kIn;
        entry.shape = matrix ? std::vector<int64_t>{rows, columns} : std::vector<int64_t>{rows};
        DiskSource source{.name = stack(layer) + (down ? "down_proj" : "gate_up_proj"),
                          .index = expert,
                          .row_begin = projection == "up" ? 1 : 0,
                          .row_step = down ? 1 : 2,
                          .transposed = matrix};
        const int64_t out = rows * source.row_step;
        source.disk_shape = matrix ? std::vector<int64_t>{kStacked, columns, out}
                                   : std::vector<int64_t>{kStacked, out};
        if (!matrix) source.name += "_bias";
        entry.sources = {source};
        map_.add(std::move(entry));
      }
    }
  }

  static float bias_value(int layer, bool down, int64_t expert, int64_t row) {
    return static_cast<float>((layer * 1000 + (down ? 500 : 0) + expert * 100 + row) % 251) / 64;
  }
  float value(const TensorEntry& entry, int64_t row, int64_t column) const {
    if (entry.layer < 0) return static_cast<float>((row * kIn + column) % 251) / 4;
    const bool down = entry.projection == "down";
    const auto layer = static_cast<size_t>(entry.layer);
    const int64_t at = down ? row : 2 * row + (entry.projection == "up" ? 1 : 0);
    if (entry.kind() == "bias") return bias_value(entry.layer, down, entry.expert, at);
    return (down ? down_ : gate_up_)[layer].value(entry.expert, at, column);
  }
  static RawTensor bias(int layer, bool down, const std::string& name) {
    const int64_t rows = down ? kIn : 2 * kInner;
    std::vector<float> values;
    for (int64_t e = 0; e < kStacked; ++e) {
      for (int64_t r = 0; r < rows; ++r) values.push_back(bias_value(layer, down, e, r));
    }
    return {name, "BF16", {kStacked, rows}, to_bytes(values, DType::kBF16)};
  }

  TensorMap map_;
  std::vector<StackedMatrix> gate_up_, down_;
};

}  // namespace sutor::testing
