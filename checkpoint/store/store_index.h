// The index of one data file of a base store: which bytes of which tensors are where, with the
// checksums of their blocks. It is written after its data file is on the disk, so a complete index
// implies a complete data file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/format/tile_bytes.h"
#include "csrc/base/hash.h"

namespace sutor {

struct StoreTensor {
  std::string name;   // as in the safetensors file
  std::string dtype;  // "BF16", "F8_E4M3" ...
  std::vector<int64_t> shape;
  int64_t bytes = 0;
  int64_t block_bytes = kBlockBytes;
  // xxh3 of all its bytes. For a tensor in several files only the first file has it.
  std::optional<Digest> digest;
};

struct StoreTile {
  uint32_t tensor = 0;         // in StoreIndex::tensors
  int64_t begin = 0;           // first byte, counted in the tensor
  int64_t bytes = 0;           // at least one
  int64_t offset = 0;          // of its first byte in the data file
  std::vector<uint32_t> crcs;  // one crc32c per block
};

struct StoreIndex {
  int64_t file_bytes = 0;  // of the data file
  Digest metadata_digest;  // of its bytes outside tiles, in order
  std::vector<StoreTensor> tensors;
  std::vector<StoreTile> tiles;  // by tensor, then by `begin`

  ByteRanges ranges() const;  // of all tiles in the data file
};

std::string encode_store_index(const StoreIndex& index);
// Checks every number before it is used: tiles are inside their tensors, and do not overlap inside
// the data file. Throws E0345 naming `where` (the index file). The last bytes are the digest of
// those before.
StoreIndex decode_store_index(std::string_view bytes, const std::string& where);

}  // namespace sutor
