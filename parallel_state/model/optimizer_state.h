// What an optimizer keeps of every trainable tensor: it declares that to memory reports and to
// checkpoints, which know no optimizer.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "csrc/base/dtype.h"
#include "csrc/base/error.h"

namespace sutor {

// One state tensor for each trainable tensor, of its shape.
struct StateKind {
  std::string name;  // such as "exp_avg"; without "/", for it names groups in files
  DType dtype = DType::kF32;
  bool operator==(const StateKind&) const = default;
};

struct OptimizerState {
  std::string optimizer;         // as the recipe names it
  std::vector<StateKind> kinds;  // in the order of checkpoints
  std::string values;            // the kind that holds the trained values themselves
  bool operator==(const OptimizerState&) const = default;

  size_t index_of(std::string_view kind) const {
    size_t at = 0;
    while (at < kinds.size() && kinds[at].name != kind) ++at;
    SUTOR_ASSERT(at < kinds.size());
    return at;
  }
  const StateKind& values_kind() const { return kinds[index_of(values)]; }
  // "adamw (master F32, exp_avg F32, exp_avg_sq F32)"
  std::string text() const {
    std::string list;
    for (const StateKind& kind : kinds) {
      list += fmt::format("{}{} {}", list.empty() ? "" : ", ", kind.name, name_of(kind.dtype));
    }
    return fmt::format("{} ({})", optimizer, list);
  }
};

}  // namespace sutor
