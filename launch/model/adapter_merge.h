// Several adapters onto one base: which tensors more than one of them changes, and what becomes of
// those.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/model/overlay.h"
#include "parallel_state/model/sharded_tensor.h"

namespace sutor {

// A tensor that several adapters hold with different values.
struct MergeConflict {
  std::string name;
  std::vector<size_t> adapters;  // numbers in the list
};

// In the order of names. Reads the tensors that more than one adapter holds.
std::vector<MergeConflict> find_conflicts(const std::vector<Overlay>& adapters);

enum class ConflictRule {
  kRefuse,
  kFirst,  // the value of the first adapter that has the tensor
  kLast,
  kAdd,  // the base and every adapter's change of it, in fp32
};
// Throws E0202 for another word than refuse, first, last, add.
ConflictRule parse_conflict_rule(const std::string& text);

// All tensors of the adapters, each once; `conflicts`: what find_conflicts() found in them.
// load_base fills rows of the base model's tensors; needed by kAdd. The adapters must outlive the
// result.
std::vector<TrainedTensor> merge_adapters(const std::vector<Overlay>& adapters,
                                          const std::vector<MergeConflict>& conflicts,
                                          ConflictRule rule,
                                          const std::function<void(ShardedTensor&)>& load_base);

}  // namespace sutor
