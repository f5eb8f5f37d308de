#include "checkpoint/tile_bytes.h"

#include <algorithm>

namespace sutor {

int64_t num_blocks(int64_t bytes, int64_t block_bytes) {
  return bytes / block_bytes + (bytes % block_bytes != 0);
}

std::vector<uint32_t> block_crcs(std::span<const std::byte> bytes) {
  std::vector<uint32_t> crcs;
  for (size_t begin = 0; begin < bytes.size(); begin += kBlockBytes) {
    crcs.push_back(
        crc32c(bytes.subspan(begin, std::min<size_t>(kBlockBytes, bytes.size() - begin))));
  }
  return crcs;
}

VerifiedRead read_verified(const InputFile& file, const TileBytes& tile, int64_t begin,
                           std::span<std::byte> into) {
  VerifiedRead result;
  const int64_t end = begin + static_cast<int64_t>(into.size());
  std::vector<std::byte> scratch;
  for (int64_t block = begin / tile.block_bytes; block * tile.block_bytes < end; ++block) {
    // A checksum covers its whole block, so the first and the last block are read whole.
    const int64_t block_begin = block * tile.block_bytes;
    const int64_t block_end = std::min(block_begin + tile.block_bytes, tile.bytes);
    const bool inside = block_begin >= begin && block_end <= end;
    std::span<std::byte> bytes;
    if (inside) {
      bytes = into.subspan(static_cast<size_t>(block_begin - begin),
                           static_cast<size_t>(block_end - block_begin));
    } else {
      scratch.resize(static_cast<size_t>(block_end - block_begin));
      bytes = scratch;
    }
    file.read_at(tile.offset + block_begin, bytes);
    result.fetched += block_end - block_begin;
    if (crc32c(bytes) != tile.crcs[static_cast<size_t>(block)]) {
      result.bad_block = block;
      return result;
    }
    if (inside) continue;
    const int64_t copy_begin = std::max(begin, block_begin);
    const int64_t copy_end = std::min(end, block_end);
    std::copy(scratch.begin() + (copy_begin - block_begin),
              scratch.begin() + (copy_end - block_begin), into.begin() + (copy_begin - begin));
  }
  return result;
}

Digest metadata_digest(const InputFile& file, ByteRanges tiles) {
  tiles.emplace_back(file.size(), file.size());
  std::sort(tiles.begin(), tiles.end());
  Hasher hasher;
  std::vector<std::byte> buffer;
  int64_t position = 0;
  for (const auto& [begin, end] : tiles) {
    while (position < begin) {
      buffer.resize(static_cast<size_t>(std::min(begin - position, kBlockBytes)));
      file.read_at(position, buffer);
      hasher.update(buffer);
      position += static_cast<int64_t>(buffer.size());
    }
    position = std::max(position, end);
  }
  return hasher.digest();
}

}  // namespace sutor
