#include "checkpoint/huggingface/random_model.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hash.h"
#include "csrc/base/owner/staged_directory.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace {

enum class Filling { kNormal, kOne, kZero };

Filling filling_of(const TensorEntry& tensor) {
  // Norms inside attention have the role of attention.
  if (tensor.role == TensorRole::kNorm || tensor.name.ends_with("norm.weight")) {
    return Filling::kOne;
  }
  const bool bias = tensor.shape.size() < 2 || tensor.name.ends_with("bias");
  return bias ? Filling::kZero : Filling::kNormal;
}

DType dtype_of(const TensorEntry& tensor, const RandomModelOptions& options) {
  return tensor.role == TensorRole::kCorrectionBias ? DType::kF32 : options.dtype;
}

// A bijection of 64-bit numbers in which every input bit moves every output bit.
uint64_t scramble(uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93;
  return x ^ (x >> 32);
}

// The two normal numbers of pair `pair` (elements 2 * pair and 2 * pair + 1), by Box-Muller.
std::pair<float, float> normal_pair(uint64_t key, uint64_t pair) {
  const uint64_t bits = scramble(scramble(pair + key) ^ key);
  const float radius_uniform = (static_cast<float>(bits >> 40) + 1.0f) * 0x1p-24f;  // (0, 1]
  const float angle_uniform = static_cast<float>(bits & 0xffffff) * 0x1p-24f;       // [0, 1)
  const float radius = std::sqrt(-2.0f * std::log(radius_uniform));
  const float angle = 2.0f * std::numbers::pi_v<float> * angle_uniform;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

void fill_normal(uint64_t key, float std, int64_t begin, int64_t count, float* into) {
  for (int64_t i = 0; i < count;) {
    const int64_t element = begin + i;
    const auto [even, odd] = normal_pair(key, static_cast<uint64_t>(element) / 2);
    if (element % 2 == 0) {
      into[i++] = std * even;
      if (i < count) into[i++] = std * odd;
    } else {
      into[i++] = std * odd;
    }
  }
}

// The tensors of the directory: those of the model, or stacks of them.
TensorMap stored_tensors(const TensorMap& model) {
  TensorMap stored;
  for (const TensorEntry& tensor : model.entries()) {
    const DiskSource& source = tensor.sources.front();
    if (stored.find(source.name) != nullptr) continue;
    TensorEntry entry{.name = source.name, .shape = tensor.shape, .role = tensor.role};
    if (!source.disk_shape.empty()) entry.shape = source.disk_shape;
    stored.add(std::move(entry));
  }
  return stored;
}

void write_tensor(const TensorEntry& tensor, const RandomModelOptions& options,
                  SafetensorsWriter& writer) {
  constexpr int64_t kChunkElements = int64_t{1} << 18;
  constexpr int64_t kBatchChunks = 64;
  const DType dtype = dtype_of(tensor, options);
  const auto size = static_cast<int64_t>(size_of(dtype));
  const int64_t elements = num_elements(tensor.shape);
  std::vector<std::byte> batch;
  for (int64_t begin = 0; begin < elements; begin += kBatchChunks * kChunkElements) {
    const int64_t count = std::min(kBatchChunks * kChunkElements, elements - begin);
    batch.resize(static_cast<size_t>(count * size));
    parallel_tasks(0, (count + kChunkElements - 1) / kChunkElements, [&](int64_t chunk) {
      const int64_t first = chunk * kChunkElements;
      random_elements(tensor, options.seed, options.std, begin + first,
                      std::min(kChunkElements, count - first), dtype, batch.data() + first * size);
    });
    writer.append(batch);
  }
}

}  // namespace

void random_elements(const TensorEntry& tensor, uint64_t seed, double std, int64_t begin,
                     int64_t count, DType dtype, std::byte* into) {
  std::vector<float> values(static_cast<size_t>(count));
  switch (filling_of(tensor)) {
    case Filling::kOne:
      std::fill(values.begin(), values.end(), 1.0f);
      break;
    case Filling::kZero:
      break;
    case Filling::kNormal:
      fill_normal(scramble(seed + 1) ^ xxh3(tensor.name).low, static_cast<float>(std), begin, count,
                  values.data());
      break;
  }
  convert_elements(reinterpret_cast<const std::byte*>(values.data()), DType::kF32, into, dtype,
                   count);
}

void write_random_model(const std::filesystem::path& directory, const TensorMap& model,
                        const RandomModelOptions& options) {
  const TensorMap stored = stored_tensors(model);
  std::vector<SafetensorsDeclaration> declarations;
  for (const TensorEntry& tensor : stored.entries()) {
    const DType dtype = dtype_of(tensor, options);
    declarations.push_back({tensor.name, std::string(name_of(dtype)), tensor.shape});
  }
  const HfShardPlan plan = plan_shards(declarations, options.max_shard_bytes);
  StagedDirectory staged(directory);
  for (const HfShard& shard : plan.shards) {
    SafetensorsWriter writer(staged.path() / shard.file_name, shard.tensors);
    for (const SafetensorsDeclaration& declaration : shard.tensors) {
      write_tensor(*stored.find(declaration.name), options, writer);
    }
    writer.finish();
  }
  std::map<std::string, std::string> files = options.other_files;
  if (!plan.index_json.empty()) files[kIndexFile] = plan.index_json;
  for (const auto& [name, content] : files) write_new_file(staged.path() / name, content);
  staged.publish();
}

}  // namespace sutor
