// What differs between two sets of tensors. Recorded digests are believed where both sides have
// them; a side that has none is read and hashed once; two sides without are read together, up to
// the first difference.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/compare/tensor_set.h"

namespace sutor {

enum class TensorChange { kEqual, kValues, kShape, kDType, kOnlyA, kOnlyB };
std::string_view name_of(TensorChange change);  // "equal", "values", "shape" ...

// Of B against A, in double precision.
struct Distance {
  double max_abs = 0;
  double relative = 0;  // norm of the difference over the norm of A; infinite when that is 0
};

struct TensorDiff {
  TensorChange change = TensorChange::kEqual;
  std::optional<Distance> distance{};  // of floating-point tensors of one shape, where asked for
};

struct SetDiff {
  std::map<std::string, TensorDiff> tensors;   // of both sides, by name
  std::map<std::string, std::string> content;  // "differs", "only in A", "only in B"
  bool content_compared = false;               // only things of one kind have content in common

  int64_t count(TensorChange change) const;
  bool equal() const;
};

// Takes stacked tensors apart where only one side has them stacked. `distances`: compute them for
// every tensor that differs. On `threads` threads (0 = all), a few MiB each.
SetDiff diff_sets(TensorSet& a, TensorSet& b, bool distances, int threads);

}  // namespace sutor
