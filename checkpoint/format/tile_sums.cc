#include "checkpoint/format/tile_sums.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/format/tile_bytes.h"

namespace sutor {
namespace {

constexpr size_t kPieceBytes = size_t{128} << 10;  // a part of every core's own cache

// All bits of the exponent are set in a value that is not finite: adding its lowest one carries
// into the sign's place, and for no other value. Eight bytes at a time; no element's sum carries
// into the next element.
struct Lanes {
  uint64_t exponents;
  uint64_t ones;
  uint64_t signs;
};
constexpr Lanes kF32Lanes{0x7f800000'7f800000, 0x00800000'00800000, 0x80000000'80000000};
constexpr Lanes kBF16Lanes{0x7f807f80'7f807f80, 0x00800080'00800080, 0x80008000'80008000};

bool all_finite(std::span<const std::byte> bytes, const Lanes& lanes) {
  uint64_t seen = 0;
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + at, 8);
    seen |= (word & lanes.exponents) + lanes.ones;
  }
  uint64_t rest = 0;
  if (at < bytes.size()) std::memcpy(&rest, bytes.data() + at, bytes.size() - at);
  seen |= (rest & lanes.exponents) + lanes.ones;
  return (seen & lanes.signs) == 0;
}

bool all_finite(std::span<const std::byte> bytes, DType dtype) {
  if (dtype == DType::kF32) return all_finite(bytes, kF32Lanes);
  if (dtype == DType::kBF16) return all_finite(bytes, kBF16Lanes);
  return true;
}

}  // namespace

TileSums tile_sums(std::span<const std::byte> bytes, DType dtype) {
  TileSums sums;
  BlockCrcs crcs;
  Hasher hasher;
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(bytes.size(), kPieceBytes));
    sums.all_finite &= all_finite(piece, dtype);
    crcs.update(piece);
    hasher.update(piece);
    bytes = bytes.subspan(piece.size());
  }
  sums.block_crcs = crcs.take();
  sums.digest = hasher.digest();
  return sums;
}

}  // namespace sutor
