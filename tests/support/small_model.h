// A model of a few tensors, and model directories with it in any of the forms on disk.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/huggingface/hf_index.h"
#include "csrc/base/dtype.h"
#include "csrc/base/safetensors.h"
#include "parallel_state/model/sharded_tensor.h"
#include "parallel_state/model/tensor_map.h"
#include "tests/support/temp_dir.h"

namespace sutor::testing {

constexpr int64_t kHidden = 4;
constexpr int64_t kWidth = 3;
constexpr int kExperts = 2;

inline std::string expert_name(int expert, const std::string& projection) {
  return "model.layers.1.mlp.experts." + std::to_string(expert) + "." + projection + "_proj.weight";
}

// An embedding, a norm, and the routed experts of layer 1, per expert or fused on disk.
inline TensorMap small_model() {
  TensorMap map;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, TensorRole role) {
    TensorEntry entry;
    entry.name = name;
    entry.shape = std::move(shape);
    entry.role = role;
    map.add(std::move(entry));
  };
  add("model.embed_tokens.weight", {8, kHidden}, TensorRole::kEmbedding);
  add("model.norm.weight", {kHidden}, TensorRole::kNorm);
  const std::string prefix = "model.layers.1.mlp.experts.";
  for (int expert = 0; expert < kExperts; ++expert) {
    for (const std::string projection : {"gate", "up", "down"}) {
      TensorEntry entry;
      entry.name = expert_name(expert, projection);
      entry.shape = projection == "down" ? std::vector<int64_t>{kHidden, kWidth}
                                         : std::vector<int64_t>{kWidth, kHidden};
      entry.role = TensorRole::kRoutedExpert;
      entry.layer = 1;
      entry.expert = expert;
      entry.projection = projection;
      DiskSource own{.name = entry.name};
      DiskSource fused{.name = prefix + "gate_up_proj",
                       .index = expert,
                       .row_begin = projection == "up" ? kWidth : 0,
                       .disk_shape = {kExperts, 2 * kWidth, kHidden}};
      if (projection == "down") {
        fused = {.name = prefix + "down_proj",
                 .index = expert,
                 .disk_shape = {kExperts, kHidden, kWidth}};
      }
      entry.sources = {own, fused};
      map.add(std::move(entry));
    }
  }
  return map;
}

// Values that differ between any two elements of the model, exact in fp32.
inline std::vector<float> values_of(const TensorMap& map, const std::string& name) {
  float tensor = 0;
  for (const TensorEntry& entry : map.entries()) {
    tensor += 1;
    if (entry.name != name) continue;
    int64_t count = 1;
    for (const int64_t extent : entry.shape) count *= extent;
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = tensor + static_cast<float>(i) / 64.0f;
    }
    return values;
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

struct StoredValues {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
  DType dtype = DType::kF32;
};

inline std::vector<std::byte> to_bytes(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  convert_elements(reinterpret_cast<const std::byte*>(values.data()), DType::kF32, bytes.data(),
                   dtype, static_cast<int64_t>(values.size()));
  return bytes;
}

inline void write_safetensors(const std::filesystem::path& path,
                              const std::vector<StoredValues>& tensors) {
  std::vector<SafetensorsDeclaration> declarations;
  for (const StoredValues& tensor : tensors) {
    declarations.push_back({tensor.name, std::string(name_of(tensor.dtype)), tensor.shape});
  }
  SafetensorsWriter writer(path, declarations);
  for (const StoredValues& tensor : tensors) writer.append(to_bytes(tensor.values, tensor.dtype));
  writer.finish();
}

// The model's tensors under their own names.
inline std::vector<StoredValues> stored_per_expert(const TensorMap& map, DType dtype) {
  std::vector<StoredValues> stored;
  for (const TensorEntry& entry : map.entries()) {
    stored.push_back({entry.name, entry.shape, values_of(map, entry.name), dtype});
  }
  return stored;
}

// The same, with the experts fused into gate_up_proj and down_proj.
inline std::vector<StoredValues> stored_fused(const TensorMap& map, DType dtype) {
  std::vector<StoredValues> stored = stored_per_expert(map, dtype);
  stored.resize(2);
  StoredValues gate_up{
      "model.layers.1.mlp.experts.gate_up_proj", {kExperts, 2 * kWidth, kHidden}, {}, dtype};
  StoredValues down{"model.layers.1.mlp.experts.down_proj", {kExperts, kHidden, kWidth}, {}, dtype};
  const auto append = [&](StoredValues& to, const std::string& name) {
    const std::vector<float> values = values_of(map, name);
    to.values.insert(to.values.end(), values.begin(), values.end());
  };
  for (int expert = 0; expert < kExperts; ++expert) {
    append(gate_up, expert_name(expert, "gate"));
    append(gate_up, expert_name(expert, "up"));
    append(down, expert_name(expert, "down"));
  }
  stored.push_back(gate_up);
  stored.push_back(down);
  return stored;
}

// config.json and one file.
inline std::filesystem::path write_single(const TempDir& dir, const std::string& name,
                                          const std::vector<StoredValues>& tensors) {
  dir.write(name + "/config.json", R"({"model_type": "small", "dtype": "float32"})");
  write_safetensors(dir / name / kSingleWeightsFile, tensors);
  return dir / name;
}

// config.json, an index, and two shards: the first `in_first` tensors and the rest.
inline std::filesystem::path write_sharded(const TempDir& dir, const std::string& name,
                                           const std::vector<StoredValues>& tensors,
                                           size_t in_first) {
  dir.write(name + "/config.json", R"({"model_type": "small", "dtype": "float32"})");
  const std::string files[] = {"model-00001-of-00002.safetensors",
                               "model-00002-of-00002.safetensors"};
  const auto middle = tensors.begin() + static_cast<int64_t>(in_first);
  write_safetensors(dir / name / files[0], {tensors.begin(), middle});
  write_safetensors(dir / name / files[1], {middle, tensors.end()});
  nlohmann::json weight_map;
  int64_t total = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    weight_map[tensors[i].name] = files[i < in_first ? 0 : 1];
    total += static_cast<int64_t>(tensors[i].values.size() * size_of(tensors[i].dtype));
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  dir.write(name + "/" + kIndexFile, index.dump(2) + "\n");
  return dir / name;
}

// A tensor, or a slice of it, with memory of its own.
struct OwnedTensor {
  std::vector<std::byte> bytes;
  ShardedTensor view;

  OwnedTensor(const TensorEntry& entry, DType dtype, int64_t row_begin = 0, int64_t row_count = -1,
              int64_t col_begin = 0, int64_t col_count = -1) {
    view.name = entry.name;
    view.dtype = dtype;
    view.global_shape = entry.shape;
    view.row_begin = row_begin;
    view.row_count = row_count < 0 ? entry.shape[0] : row_count;
    view.col_begin = col_begin;
    view.col_count = col_count;
    bytes.resize(view.num_bytes());
    view.data = bytes.data();
  }
  OwnedTensor(const TensorEntry& entry, DType dtype, const std::vector<float>& values)
      : OwnedTensor(entry, dtype) {
    bytes = to_bytes(values, dtype);
    view.data = bytes.data();
  }
  OwnedTensor(OwnedTensor&&) = default;

  std::vector<float> values() const {
    std::vector<float> values(static_cast<size_t>(view.num_elements()));
    convert_elements(bytes.data(), view.dtype, reinterpret_cast<std::byte*>(values.data()),
                     DType::kF32, view.num_elements());
    return values;
  }
};

}  // namespace sutor::testing
