// Which rows of k and v an attention reads: batches and caches fill it in.
#pragma once

#include <cstdint>
#include <vector>

namespace sutor {

// The rows of k and v that are a document's keys: the first one, and how many.
struct KeyRows {
  std::vector<int64_t> begins, counts;  // [documents]
};

}  // namespace sutor
