#include "checkpoint/format/tile_bytes.h"

#include <algorithm>

namespace sutor {

int64_t num_blocks(int64_t bytes, int64_t block_bytes) {
  return bytes / block_bytes + (bytes % block_bytes != 0);
}

std::vector<uint32_t> block_crcs(std::span<const std::byte> bytes) {
  BlockCrcs crcs;
  crcs.update(bytes);
  return crcs.take();
}

void BlockCrcs::update(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (filled_ == block_bytes_) filled_ = 0;
    if (filled_ == 0) crcs_.push_back(0);
    const auto chunk =
        bytes.first(std::min(bytes.size(), static_cast<size_t>(block_bytes_ - filled_)));
    crcs_.back() = crc32c(chunk, crcs_.back());
    filled_ += static_cast<int64_t>(chunk.size());
    bytes = bytes.subspan(chunk.size());
  }
}

VerifiedRead read_verified(const InputFile& file, const TileBytes& tile, int64_t begin,
                           std::span<std::byte> into) {
  VerifiedRead result;
  const int64_t end = begin + static_cast<int64_t>(into.size());
  const int64_t run_blocks = std::max<int64_t>(1, kBlockBytes / tile.block_bytes);
  std::vector<std::byte> scratch;
  for (int64_t at = begin; at < end;) {
    // A checksum covers its whole block, so the first and the last block are read whole; those
    // between go straight to their place, several small ones at a time.
    const int64_t block = at / tile.block_bytes;
    const int64_t run_begin = block * tile.block_bytes;
    const auto end_of = [&](int64_t blocks) {
      return std::min(run_begin + blocks * tile.block_bytes, tile.bytes);
    };
    int64_t blocks = 1;
    while (blocks < run_blocks && end_of(blocks) < end && end_of(blocks + 1) <= end) ++blocks;
    const int64_t run_end = end_of(blocks);
    const bool inside = run_begin == at && run_end <= end;
    std::span<std::byte> bytes;
    if (inside) {
      bytes = into.subspan(static_cast<size_t>(run_begin - begin),
                           static_cast<size_t>(run_end - run_begin));
    } else {
      scratch.resize(static_cast<size_t>(run_end - run_begin));
      bytes = scratch;
    }
    file.read_at(tile.offset + run_begin, bytes);
    result.fetched += run_end - run_begin;
    BlockCrcs found(tile.block_bytes);
    found.update(bytes);
    const std::vector<uint32_t> crcs = found.take();
    const auto expected = tile.crcs.begin() + block;
    const auto bad = std::mismatch(crcs.begin(), crcs.end(), expected).first;
    if (bad != crcs.end()) {
      result.bad_block = block + (bad - crcs.begin());
      return result;
    }
    const int64_t next = std::min(run_end, end);
    if (!inside) {
      std::copy(scratch.begin() + (at - run_begin), scratch.begin() + (next - run_begin),
                into.begin() + (at - begin));
    }
    at = next;
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
