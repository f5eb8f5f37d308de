// Merges several adapters onto one base: finds the tensors that more than one of them changes, and
// resolves those conflicts.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/model/overlay.h"
#include "parallel_state/model/sharded_tensor.h"

namespace sutor {

// A tensor for which several adapters have different values.
struct MergeConflict {
  std::string name;
  std::vector<size_t> adapters;  // indices in the list
};

// In the order of names. Reads the tensors that more than one adapter has.
std::vector<MergeConflict> find_conflicts(const std::vector<Overlay>& adapters);

enum class ConflictRule {
  kRefuse,
  kFirst,  // the value of the first adapter that has the tensor
  kLast,
  kAdd,  // the base and every adapter's change of it, in fp32
};
// Throws E0202 for another word than refuse, first, last, add.
ConflictRule parse_conflict_rule(const std::string& text);

// All tensors of the adapters, each once; `conflicts`: the result of find_conflicts() on them.
// load_base fills rows of the base model's tensors; kAdd needs it. The adapters must outlive the
// result.
std::vector<TrainedTensor> merge_adapters(const std::vector<Overlay>& adapters,
                                          const std::vector<MergeConflict>& conflicts,
                                          ConflictRule rule,
                                          const std::function<void(ShardedTensor&)>& load_base);

}  // namespace sutor
