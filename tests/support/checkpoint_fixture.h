// A small checkpoint of three tensors for the tests of writing, reading and listing.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/partial/partial_checkpoint.h"
#include "csrc/base/hash.h"

namespace sutor::testing {

inline std::string content_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline std::vector<IndexedTensor> sample_tensors() {
  const std::string expert = "model.layers.1.mlp.experts.7.";
  return {{expert + "gate_proj.weight", DType::kF32, {24, 16}},
          {expert + "down_proj.weight", DType::kF32, {16, 24}},
          {"model.norm.weight", DType::kF32, {16}}};
}

// The whole value of every tensor and kind, made from the name.
class SampleValues {
 public:
  explicit SampleValues(std::vector<IndexedTensor> tensors, float scale = 1) {
    for (const IndexedTensor& tensor : tensors) {
      for (const TensorKind kind : kAllKinds) {
        std::vector<float>& values = values_[{tensor.name, kind}];
        values.resize(static_cast<size_t>(tensor.rows() * tensor.row_elements()));
        const auto seed =
            static_cast<uint32_t>(xxh3(tensor.name).low) + static_cast<uint32_t>(kind);
        for (size_t i = 0; i < values.size(); ++i) {
          values[i] = scale * static_cast<float>((seed + 7919 * i) % 65521) / 65521;
        }
      }
    }
    tensors_ = std::move(tensors);
  }

  const std::vector<IndexedTensor>& tensors() const { return tensors_; }
  const std::vector<float>& of(const std::string& name, TensorKind kind) const {
    return values_.at({name, kind});
  }
  // Rows [begin, begin + count) of a tensor as a view on its values.
  ShardedTensor rows(const IndexedTensor& tensor, TensorKind kind, int64_t begin, int64_t count) {
    std::vector<float>& values = values_.at({tensor.name, kind});
    return {.name = tensor.name,
            .dtype = tensor.dtype,
            .global_shape = tensor.shape,
            .row_begin = begin,
            .row_count = count,
            .data = reinterpret_cast<std::byte*>(values.data()) + begin * tensor.row_bytes()};
  }

 private:
  std::vector<IndexedTensor> tensors_;
  std::map<std::pair<std::string, TensorKind>, std::vector<float>> values_;
};

inline CheckpointMeta sample_meta(int64_t step) {
  CheckpointMeta meta;
  meta.step = step;
  meta.base_digest = "xxh3:00000000000000000000000000000001";
  meta.plan_digest = "xxh3:00000000000000000000000000000002";
  meta.expert_config = {
      {"experts", {{"1", {7}}}}, {"shared_experts", false}, {"non_expert_modules", false}};
  meta.layout = "world 2: ep 2";
  meta.state = {{"step", step},
                {"cursor", {{"epoch", 1}, {"position", 640}}},
                {"rng", {{"seed", ~uint64_t{0}}}},
                {"schedule", {{"lr", 0.1}}}};
  meta.provenance = {{"program", "sutor"}};
  return meta;
}

// Rows of a tensor that writer `writer` of `writers` owns: equal blocks, the last takes the rest.
inline std::pair<int64_t, int64_t> owned_rows(int64_t rows, int writer, int writers) {
  return {rows * writer / writers, rows * (writer + 1) / writers};
}

inline std::vector<std::string> write_shards(const std::filesystem::path& root, int64_t step,
                                             const std::string& uuid, SampleValues& values,
                                             int writers) {
  std::vector<std::string> records;
  for (int rank = 0; rank < writers; ++rank) {
    CheckpointWriter writer(root, step, uuid, rank);
    for (const IndexedTensor& tensor : values.tensors()) {
      const auto [begin, end] = owned_rows(tensor.rows(), rank, writers);
      for (const TensorKind kind : kAllKinds) {
        writer.add(kind, values.rows(tensor, kind, begin, end - begin));
      }
    }
    records.push_back(writer.write());
  }
  return records;
}

inline std::filesystem::path save_sample(const std::filesystem::path& root, int64_t step,
                                         SampleValues& values, int writers = 2) {
  begin_checkpoint(root, step, "test");
  const auto records = write_shards(root, step, "test", values, writers);
  return publish_checkpoint(root, step, "test", records, sample_meta(step), values.tensors());
}

}  // namespace sutor::testing
