// How a model falls into the data files of a base store: decided from the headers alone, the same
// on every rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/huggingface/model_directory.h"
#include "checkpoint/store/store_layout.h"

namespace sutor {

inline constexpr int64_t kDefaultStoreFileBytes = int64_t{4} << 30;
inline constexpr int64_t kLeastStoreFileBytes = int64_t{64} << 10;

// Consecutive rows of a tensor that one data file holds.
struct StoreSlice {
  StoredTensor tensor;
  StoreLayout layout;
  int64_t row_begin = 0;
  int64_t row_end = 0;

  int64_t begin() const { return row_begin * layout.row_bytes; }
  int64_t bytes() const { return (row_end - row_begin) * layout.row_bytes; }
};

struct StoreFilePlan {
  std::vector<StoreSlice> slices;
  int64_t bytes = 0;  // of the finished file, a little rounded up
};

struct StorePlan {
  int64_t max_file_bytes = 0;
  int64_t tile_bytes = 0;  // most bytes of a tile that has more than one row
  // One contiguous run of tensors each, in the order of the shards and of their bytes.
  std::vector<StoreFilePlan> files;
  std::vector<std::string> other_files;  // in the order of their names

  int64_t total_bytes() const;  // of the data files
};

// No file is larger than `max_file_bytes`, but one that holds nothing but a row that is larger; as
// many as that takes, about equally full. A tensor that does not fit into what is left of a file
// begins the next one; only one that is larger than a whole file is divided. Throws E0351 for what
// a store cannot hold.
StorePlan plan_store(const ModelDirectory& model, int64_t max_file_bytes);

}  // namespace sutor
