// How a tensor of a safetensors file is stored in a base store: the type and shape of its HDF5
// datasets, and the sizes of a row, a tile and a block with a checksum. A function of dtype and
// shape only, so that equal models give equal stores.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "csrc/base/safetensors.h"

namespace sutor {

struct StoreLayout {
  std::string type;           // of the datasets, as h5.h spells it
  std::vector<int64_t> dims;  // of a dataset with all rows; empty: a scalar
  int64_t rows = 1;
  int64_t row_bytes = 0;
  // The bytes that one checksum covers. In stacked matrices (fused experts) a block never crosses
  // into another matrix, nor from the first half of a matrix's rows (gate) into the second (up), so
  // that an expert can be read without its neighbours.
  int64_t block_bytes = 0;

  int64_t tile_rows(int64_t tile_bytes) const;  // rows of a full tile: at least one
};

// Types whose elements are not whole bytes, or that HDF5 lacks, are stored as a list of bytes.
// Throws E0351 for a name or a shape that a store does not support.
StoreLayout store_layout(const SafetensorsEntry& entry);

// The tensor's group in the file: its name, with `%`, `/` and zero bytes as %25, %2F and %00; the
// name `.` becomes %2E and the empty one `%`.
std::string store_group(std::string_view tensor);

}  // namespace sutor
