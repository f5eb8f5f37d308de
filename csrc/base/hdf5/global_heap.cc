#include "csrc/base/hdf5/global_heap.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace sutor::h5 {
namespace {

constexpr std::string_view kMark = "GCOL";
constexpr uint64_t kHeadBytes = 16;  // mark, version, reserved; u64 bytes of the whole heap
constexpr uint64_t kLeastBytes = 4096;
constexpr int64_t kPieceBytes = int64_t{1} << 20;

template <typename T>
T value_at(const std::vector<char>& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// An object: u16 number (0: free space), u16 references, u32 reserved, u64 bytes without this head
// and filled up to 8 (of free space: with this head, to the next object).
bool is_sound(const std::vector<char>& heap) {
  size_t at = kHeadBytes;
  while (at + kHeadBytes <= heap.size()) {
    const auto number = value_at<uint16_t>(heap, at);
    const auto bytes = value_at<uint64_t>(heap, at + 8);
    const uint64_t left = heap.size() - at;
    if (bytes > left) return false;
    const uint64_t needed = number == 0 ? bytes : kHeadBytes + (bytes + 7) / 8 * 8;
    if (needed == 0 || needed > left) return false;
    at += needed;
  }
  return true;
}

bool is_sound_heap(const InputFile& file, int64_t offset) {
  std::vector<char> head(kHeadBytes);
  const int64_t left = file.size() - offset;
  if (left < static_cast<int64_t>(kHeadBytes)) return false;
  file.read_at(offset, std::as_writable_bytes(std::span(head)));
  const auto bytes = value_at<uint64_t>(head, 8);
  if (head[4] != 1 || bytes < kLeastBytes || bytes > static_cast<uint64_t>(left)) return false;
  std::vector<char> heap(bytes);
  file.read_at(offset, std::as_writable_bytes(std::span(heap)));
  return is_sound(heap);
}

}  // namespace

bool has_sound_heaps(const InputFile& file) {
  // Pieces overlap, so that a mark across their border is found.
  const auto overlap = static_cast<int64_t>(kMark.size()) - 1;
  std::vector<char> piece;
  for (int64_t at = 0; at < file.size(); at += kPieceBytes) {
    piece.resize(static_cast<size_t>(std::min(kPieceBytes + overlap, file.size() - at)));
    file.read_at(at, std::as_writable_bytes(std::span(piece)));
    const std::string_view text(piece.data(), piece.size());
    for (size_t found = text.find(kMark); found != text.npos; found = text.find(kMark, found + 1)) {
      if (!is_sound_heap(file, at + static_cast<int64_t>(found))) return false;
    }
  }
  return true;
}

}  // namespace sutor::h5
