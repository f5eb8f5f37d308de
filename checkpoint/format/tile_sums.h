// What is stored of a tile beside its bytes, and whether they may be stored at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "csrc/base/dtype.h"
#include "csrc/base/hash.h"

namespace sutor {

struct TileSums {
  std::vector<uint32_t> block_crcs;  // as block_crcs() of checkpoint/format/tile_bytes.h
  Digest digest;                     // as xxh3()
  bool all_finite = true;            // no infinity and no NaN; true for dtypes that have none
};

// Of whole elements. Reads the memory once: a piece that the processor's cache holds goes through
// all three before the next piece is fetched.
TileSums tile_sums(std::span<const std::byte> bytes, DType dtype);

}  // namespace sutor
