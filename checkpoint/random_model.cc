#include "checkpoint/random_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <vector>

#include "checkpoint/resolved_source.h"
#include "checkpoint/scatter.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hash.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace {

enum class Filling { kNormal, kOne, kZero };

Filling filling_of(const TensorEntry& tensor) {
  // Norms inside of attention have the attention's role.
  if (tensor.role == TensorRole::kNorm || tensor.name.ends_with("norm.weight")) {
    return Filling::kOne;
  }
  return tensor.shape.size() >= 2 ? Filling::kNormal : Filling::kZero;  // 1-D: biases
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

// The two normal numbers of pair `pair` (elements 2 * pair and 2 * pair + 1), by Box and Muller.
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

// A tensor of the directory and what it holds: one tensor of the model, or several.
struct RandomTensor {
  SafetensorsDeclaration declaration;
  DType dtype = DType::kF32;
  std::vector<const TensorEntry*> parts;

  bool is_stack() const { return parts[0]->name != declaration.name; }
};

std::vector<RandomTensor> stored_tensors(const TensorMap& model,
                                         const RandomModelOptions& options) {
  std::vector<RandomTensor> stored;
  std::map<std::string, size_t> stacks;
  for (const TensorEntry& tensor : model.entries()) {
    const bool own = std::any_of(tensor.sources.begin(), tensor.sources.end(),
                                 [&](const DiskSource& s) { return s.name == tensor.name; });
    const DiskSource& source = tensor.sources[0];
    const DType dtype = dtype_of(tensor, options);
    const auto [at, fresh] = stacks.emplace(own ? tensor.name : source.name, stored.size());
    if (fresh) {
      const bool whole = own || source.disk_shape.empty();
      stored.push_back(
          {{at->first, std::string(name_of(dtype)), whole ? tensor.shape : source.disk_shape},
           dtype,
           {}});
    }
    stored[at->second].parts.push_back(&tensor);
  }
  return stored;
}

void write_tensor(const TensorEntry& tensor, const RandomModelOptions& options,
                  SafetensorsWriter& writer) {
  constexpr int64_t kPieceElements = int64_t{1} << 18;
  constexpr int64_t kBatchPieces = 64;
  const DType dtype = dtype_of(tensor, options);
  const auto size = static_cast<int64_t>(size_of(dtype));
  const int64_t elements = num_elements(tensor.shape);
  std::vector<std::byte> batch;
  for (int64_t begin = 0; begin < elements; begin += kBatchPieces * kPieceElements) {
    const int64_t count = std::min(kBatchPieces * kPieceElements, elements - begin);
    batch.resize(static_cast<size_t>(count * size));
    parallel_tasks(0, (count + kPieceElements - 1) / kPieceElements, [&](int64_t piece) {
      const int64_t first = piece * kPieceElements;
      random_elements(tensor, options.seed, options.std, begin + first,
                      std::min(kPieceElements, count - first), dtype, batch.data() + first * size);
    });
    writer.append(batch);
  }
}

// Matrix after matrix.
void write_stack(const RandomTensor& stored, const RandomModelOptions& options,
                 SafetensorsWriter& writer) {
  const auto size = static_cast<int64_t>(size_of(stored.dtype));
  std::map<int64_t, std::vector<const TensorEntry*>> by_matrix;
  for (const TensorEntry* part : stored.parts) {
    by_matrix[element_places(*part, part->sources[0], size).matrix_begin].push_back(part);
  }
  std::vector<std::byte> matrix, values;
  for (const auto& [begin, parts] : by_matrix) {
    for (const TensorEntry* part : parts) {
      const ElementPlaces places = element_places(*part, part->sources[0], size);
      const int64_t elements = num_elements(part->shape), rows = part->shape[0];
      matrix.resize(static_cast<size_t>(places.matrix_bytes));
      values.resize(static_cast<size_t>(elements * size));
      random_elements(*part, options.seed, options.std, 0, elements, stored.dtype, values.data());
      scatter_rows(values.data(), rows, elements / rows, size,
                   matrix.data() + places.origin - begin, places.row_stride, places.col_stride);
    }
    writer.append(matrix);
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
  const std::vector<RandomTensor> stored = stored_tensors(model, options);
  std::vector<SafetensorsDeclaration> declarations;
  std::map<std::string, const RandomTensor*> by_name;
  for (const RandomTensor& tensor : stored) {
    declarations.push_back(tensor.declaration);
    by_name[tensor.declaration.name] = &tensor;
  }
  const HfShardPlan plan = plan_shards(declarations, options.max_shard_bytes);
  StagedDirectory staged(directory);
  for (const HfShard& shard : plan.shards) {
    SafetensorsWriter writer(staged.path() / shard.file_name, shard.tensors);
    for (const SafetensorsDeclaration& declaration : shard.tensors) {
      const RandomTensor& tensor = *by_name.at(declaration.name);
      if (tensor.is_stack()) {
        write_stack(tensor, options, writer);
      } else {
        write_tensor(*tensor.parts[0], options, writer);
      }
    }
    writer.finish();
  }
  std::map<std::string, std::string> files = options.other_files;
  if (!plan.index_json.empty()) files[kIndexFile] = plan.index_json;
  for (const auto& [name, content] : files) {
    OutputFile file(staged.path() / name);
    file.append(content);
    file.finish();
  }
  staged.publish();
}

}  // namespace sutor
