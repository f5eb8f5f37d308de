// How a tensor of a safetensors file is stored in a base store: the type and shape of its HDF5
// datasets, and how far a row, a tile and a checksummed block reach. A function of dtype and shape
// alone, so that equal models give equal stores.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "csrc/base/safetensors.h"

namespace sutor {

struct StoreLayout {
  std::string type;           // of the datasets, as h5.h spells it
  std::vector<int64_t> dims;  // of one dataset that held all rows; empty: a scalar
  int64_t rows = 1;
  int64_t row_bytes = 0;
  // What one checksum covers. In stacked matrices (fused experts) a block never reaches into
  // another matrix, nor from the first half of a matrix's rows (gate) into the second (up), so that
  // an expert is read alone.
  int64_t block_bytes = 0;

  int64_t tile_rows(int64_t tile_bytes) const;  // rows of a full tile: at least one
};

// Types whose elements are no whole bytes, or that HDF5 lacks, are stored as a list of bytes.
// Throws E0351 for a name or a shape that the store cannot hold.
StoreLayout store_layout(const SafetensorsEntry& entry);

// The tensor's group in the file: its name, with `%`, `/` and zero bytes as %25, %2F and %00, `.`
// as %2E, and a lone `%` for the empty name.
std::string store_group(std::string_view tensor);

}  // namespace sutor
