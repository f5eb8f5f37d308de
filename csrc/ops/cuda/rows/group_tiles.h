// Which rows a block of a grouped product works on. Rows are grouped: group g has the rows
// [offsets[g], offsets[g + 1]). The offsets are on the device, so the number of blocks depends on
// their number and on the rows alone: group g has the tiles from offsets[g] / tile_rows + g on, at
// least as many as cover its rows, and some tiles have none.
#pragma once

#include "csrc/ops/cuda/rows/block.h"

namespace sutor::ops::cuda {

// The group of a row; empty groups have none. Rows beyond the last group count to the last.
SUTOR_HOST_DEVICE inline int64_t group_of_row(const int64_t* offsets, int64_t groups, int64_t row) {
  int64_t low = 0, high = groups - 1;  // the last group that begins at or before the row
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (offsets[middle] <= row) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

struct GroupTile {
  int64_t group, row, rows;  // the rows [row, row + rows); rows may be 0
};

// How many tiles are enough for any offsets of so many rows.
SUTOR_HOST_DEVICE inline int64_t count_tiles(int64_t rows, int64_t groups, int64_t tile_rows) {
  return rows / tile_rows + groups;
}

SUTOR_HOST_DEVICE inline GroupTile tile_at(const int64_t* offsets, int64_t groups,
                                           int64_t tile_rows, int64_t tile) {
  int64_t low = 0, high = groups - 1;  // the last group whose tiles begin at or before this one
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (offsets[middle] / tile_rows + middle <= tile) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const int64_t nth = tile - (offsets[low] / tile_rows + low);
  const int64_t row = offsets[low] + nth * tile_rows, left = offsets[low + 1] - row;
  return {low, row, left < 0 ? 0 : left < tile_rows ? left : tile_rows};
}

}  // namespace sutor::ops::cuda
