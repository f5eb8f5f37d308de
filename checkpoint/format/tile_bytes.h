// The bytes of tiles in a data file: checksums of their blocks, reads that verify them, and a
// digest of the bytes between tiles. Independent of what the tiles mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "csrc/base/file.h"
#include "csrc/base/hash.h"

namespace sutor {

inline constexpr int64_t kTileBytes = int64_t{16} << 20;
inline constexpr int64_t kBlockBytes = int64_t{1} << 20;  // the most that one crc32c covers

int64_t num_blocks(int64_t bytes, int64_t block_bytes = kBlockBytes);
std::vector<uint32_t> block_crcs(std::span<const std::byte> bytes);

// The same for bytes that come in chunks of any size.
class BlockCrcs {
 public:
  explicit BlockCrcs(int64_t block_bytes = kBlockBytes) : block_bytes_(block_bytes) {}
  void update(std::span<const std::byte> bytes);
  std::vector<uint32_t> take() { return std::move(crcs_); }

 private:
  int64_t block_bytes_;
  int64_t filled_ = 0;  // bytes so far in the last block
  std::vector<uint32_t> crcs_;
};

// The location of a tile in a file, and the checksums of its blocks; the last block may be shorter.
struct TileBytes {
  int64_t offset = 0;
  int64_t bytes = 0;
  int64_t block_bytes = kBlockBytes;
  std::span<const uint32_t> crcs;
};

struct VerifiedRead {
  int64_t fetched = 0;               // bytes read: whole blocks
  std::optional<int64_t> bad_block;  // the first corrupt one
};

// Fills `into` from the tile's byte `begin` on and checks every block that it touches. Stops at a
// corrupt block.
VerifiedRead read_verified(const InputFile& file, const TileBytes& tile, int64_t begin,
                           std::span<std::byte> into);

// Bytes [begin, end) of a file, in any order.
using ByteRanges = std::vector<std::pair<int64_t, int64_t>>;

// The digest of the file's bytes outside of `tiles`, in order.
Digest metadata_digest(const InputFile& file, ByteRanges tiles);

}  // namespace sutor
