// The differences between two sets of tensors. Recorded digests count where both sides have them; a
// side without one is read and hashed once; two sides without are read together, up to the first
// difference.
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

// Between B and A, in double precision.
struct Distance {
  double max_abs = 0;
  double relative = 0;  // norm of the difference over the norm of A; infinite when the latter is 0
};

struct TensorDiff {
  TensorChange change = TensorChange::kEqual;
  std::optional<Distance> distance{};  // of floating-point tensors of one shape, on request
};

struct SetDiff {
  std::map<std::string, TensorDiff> tensors;   // of both sides, by name
  std::map<std::string, std::string> content;  // "differs", "only in A", "only in B"
  bool content_compared = false;               // only artifacts of one kind have comparable content

  int64_t count(TensorChange change) const;
  bool equal() const;
};

// Splits stacked tensors where only one side has them stacked. `distances`: computes them for every
// tensor that differs. Uses `threads` threads (0 = all), a few MiB each.
SetDiff diff_sets(TensorSet& a, TensorSet& b, bool distances, int threads);

}  // namespace sutor
