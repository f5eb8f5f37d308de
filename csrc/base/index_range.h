// Runs of indices, and the two ways to divide one among ranks. They agree when it divides evenly.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sutor {

// [begin, end)
struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const IndexRange&) const = default;
};

// Run `index` of `count` near-equal runs of [0, total), in order; the longer ones are spread among
// the others. For what a model's sizes divide: shards of tensors, rows of tensor-parallel ranks.
constexpr IndexRange spread_range(int64_t total, int64_t index, int64_t count) {
  return {total * index / count, total * (index + 1) / count};
}

// As above, but the longer ones come first, so that the last may be empty. For samples: a batch
// that is short leaves the same ranks without one, whatever its size.
constexpr IndexRange leading_range(int64_t total, int64_t index, int64_t count) {
  const int64_t each = total / count, more = total % count;
  const int64_t begin = index * each + std::min(index, more);
  return {begin, begin + each + (index < more)};
}

}  // namespace sutor
