#include "launch/model/adapter_merge.h"

#include <map>
#include <set>

#include "csrc/base/error.h"

namespace sutor {
namespace {

// name -> (adapter, tensor)
using Holders =
    std::map<std::string, std::vector<std::pair<size_t, const TrainedTensor*>>, std::less<>>;

Holders holders_of(const std::vector<Overlay>& adapters) {
  Holders holders;
  for (size_t a = 0; a < adapters.size(); ++a) {
    for (const TrainedTensor& tensor : adapters[a].tensors()) {
      holders[tensor.name].emplace_back(a, &tensor);
    }
  }
  return holders;
}

std::vector<float> values_of(const TrainedTensor& tensor, ShardedTensor slice) {
  const int64_t elements = slice.num_elements();
  std::vector<std::byte> bytes(static_cast<size_t>(elements) * size_of(tensor.dtype));
  slice.dtype = tensor.dtype;
  slice.data = bytes.data();
  tensor.read(slice);
  std::vector<float> values(static_cast<size_t>(elements));
  convert_elements(bytes.data(), tensor.dtype, reinterpret_cast<std::byte*>(values.data()),
                   DType::kF32, elements);
  return values;
}

// W + sum of (W_i - W).
TrainedTensor sum_of_changes(const std::vector<std::pair<size_t, const TrainedTensor*>>& holders,
                             const std::function<void(ShardedTensor&)>& load_base) {
  const TrainedTensor& first = *holders.front().second;
  TrainedTensor sum{.name = first.name, .shape = first.shape, .dtype = DType::kF32};
  sum.read = [holders, load_base](const ShardedTensor& slice) {
    ShardedTensor base_slice = slice;
    load_base(base_slice);
    const int64_t elements = slice.num_elements();
    float* values = reinterpret_cast<float*>(slice.data);
    const std::vector<float> base(values, values + elements);
    for (const auto& [adapter, tensor] : holders) {
      const std::vector<float> changed = values_of(*tensor, slice);
      for (int64_t i = 0; i < elements; ++i) values[i] += changed[i] - base[i];
    }
  };
  return sum;
}

}  // namespace

std::vector<MergeConflict> find_conflicts(const std::vector<Overlay>& adapters) {
  std::vector<MergeConflict> conflicts;
  for (const auto& [name, holders] : holders_of(adapters)) {
    if (holders.size() < 2) continue;
    std::set<Digest> values;
    MergeConflict conflict{name, {}};
    for (const auto& [adapter, tensor] : holders) {
      values.insert(stored_digests({*tensor}).at(name));
      conflict.adapters.push_back(adapter);
    }
    if (values.size() > 1) conflicts.push_back(std::move(conflict));
  }
  return conflicts;
}

ConflictRule parse_conflict_rule(const std::string& text) {
  if (text == "refuse") return ConflictRule::kRefuse;
  if (text == "first") return ConflictRule::kFirst;
  if (text == "last") return ConflictRule::kLast;
  if (text == "add") return ConflictRule::kAdd;
  fail(ErrorCode::kBadArgument, "--conflicts: expected refuse, first, last or add, got `{}`", text);
}

std::vector<TrainedTensor> merge_adapters(const std::vector<Overlay>& adapters,
                                          const std::vector<MergeConflict>& conflicts,
                                          ConflictRule rule,
                                          const std::function<void(ShardedTensor&)>& load_base) {
  std::vector<TrainedTensor> merged;
  std::set<std::string> conflicting;
  for (const MergeConflict& conflict : conflicts) conflicting.insert(conflict.name);
  for (const auto& [name, holders] : holders_of(adapters)) {
    const bool conflict = conflicting.count(name) > 0;
    SUTOR_ASSERT(!conflict || rule != ConflictRule::kRefuse);
    if (conflict && rule == ConflictRule::kAdd) {
      merged.push_back(sum_of_changes(holders, load_base));
    } else {
      merged.push_back(*(rule == ConflictRule::kFirst ? holders.front() : holders.back()).second);
    }
  }
  return merged;
}

}  // namespace sutor
