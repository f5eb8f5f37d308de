#include "layers/lora/lora_params.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "csrc/base/error.h"
#include "csrc/base/hash.h"
#include "csrc/base/random.h"

namespace sutor {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";

bool is_target(const TensorEntry& tensor, const std::set<std::string>& targets,
               const ExpertConfig& config) {
  if (tensor.shape.size() != 2 || !tensor.name.ends_with(kWeight)) return false;
  const bool linears = targets.count("linears") > 0;
  switch (tensor.role) {
    case TensorRole::kAttention:
      return linears || targets.count("attention") > 0;
    case TensorRole::kDenseMlp:
    case TensorRole::kSharedExpert:
      return linears;
    case TensorRole::kRoutedExpert: {
      const auto layer = config.experts.find(tensor.layer);
      return targets.count("experts") > 0 && layer != config.experts.end() &&
             std::count(layer->second.begin(), layer->second.end(), tensor.expert) > 0;
    }
    default:
      return false;
  }
}

}  // namespace

std::string lora_name(std::string_view weight, char which) {
  return std::string(weight.substr(0, weight.size() - kWeight.size())) +
         std::string(which == 'A' ? kA : kB);
}

std::string weight_of_lora(std::string_view lora) {
  if (!lora.ends_with(kA) && !lora.ends_with(kB)) return "";
  return std::string(lora.substr(0, lora.size() - kA.size())) + std::string(kWeight);
}

ModelInfo with_lora(const ModelInfo& model, const LoraOptions& options,
                    const ExpertConfig& config) {
  const std::set<std::string> targets(options.targets.begin(), options.targets.end());
  for (const std::string& target : targets) {
    if (target != "attention" && target != "linears" && target != "experts") {
      fail(ErrorCode::kBadValue, "lora.targets: expected attention, linears or experts, got `{}`",
           target);
    }
  }
  std::vector<TensorEntry> pairs;
  for (const TensorEntry& tensor : model.tensors.entries()) {
    if (!is_target(tensor, targets, config)) continue;
    TensorEntry pair{.name = lora_name(tensor.name, 'A'),
                     .shape = {options.rank, tensor.shape[1]},
                     .role = TensorRole::kLora,
                     .layer = tensor.layer,
                     .expert = tensor.expert,
                     .projection = tensor.projection};
    // A is divided as the inputs of the matrix are, B as its outputs.
    const bool by_rows = tensor.split.axis == TensorSplit::Axis::kRows;
    pair.split = by_rows ? TensorSplit() : tensor.split;
    pairs.push_back(pair);
    pair.name = lora_name(tensor.name, 'B');
    pair.shape = {tensor.shape[0], options.rank};
    pair.split = by_rows ? tensor.split : TensorSplit();
    pairs.push_back(pair);
  }
  if (pairs.empty()) {
    fail(ErrorCode::kNothingTrains,
         "lora.targets names no matrix of this model: nothing would train");
  }
  ModelInfo result = model;
  for (TensorEntry& pair : pairs) result.tensors.add(std::move(pair));
  result.lora_scale = options.alpha / options.rank;
  return result;
}

TrainableSet lora_trainable_set(const ModelInfo& model) {
  std::vector<std::string> names;
  for (const TensorEntry& tensor : model.tensors.entries()) {
    if (tensor.role == TensorRole::kLora) names.push_back(tensor.name);
  }
  return TrainableSet(model, std::move(names));
}

void fill_initial_lora(const ShardedTensor& destination, uint64_t seed) {
  const int64_t row = destination.row_elements(), columns = destination.columns();
  const int64_t count = destination.num_elements();
  const bool is_a = std::string_view(destination.name).ends_with(kA);
  std::vector<float> values(static_cast<size_t>(count), 0.0f);
  if (is_a) {
    const uint64_t stream = mix64(seed + kGolden64) ^ xxh3(destination.name).low;
    const double bound = 1.0 / std::sqrt(static_cast<double>(row));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t element =
          (destination.row_begin + i / columns) * row + destination.col_begin + i % columns;
      const double unit = unit_of(mix64(stream + static_cast<uint64_t>(element + 1) * kGolden64));
      values[i] = static_cast<float>((2 * unit - 1) * bound);
    }
  }
  convert_elements(reinterpret_cast<const std::byte*>(values.data()), DType::kF32, destination.data,
                   destination.dtype, count);
}

}  // namespace sutor
