// Which rows of k and v an attention reads: a part of its contract that batches and caches fill in.
#pragma once

#include <cstdint>
#include <vector>

namespace sutor {

// Which rows of k and v are a document's keys, and how many.
struct KeyRows {
  std::vector<int64_t> begins, counts;  // [documents]
};

}  // namespace sutor
