#include "checkpoint/files/file_content.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

namespace sutor {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;

void stream(const InputFile& file,
            const std::function<void(int64_t at, std::span<const std::byte>)>& sink) {
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(kPieceBytes, file.size())));
  for (int64_t at = 0; at < file.size(); at += kPieceBytes) {
    const auto piece =
        std::span(buffer).first(static_cast<size_t>(std::min(kPieceBytes, file.size() - at)));
    file.read_at(at, piece);
    sink(at, piece);
  }
}

}  // namespace

bool same_content(const InputFile& a, const InputFile& b) {
  if (a.size() != b.size()) return false;
  bool equal = true;
  std::vector<std::byte> other;
  stream(a, [&](int64_t at, std::span<const std::byte> piece) {
    other.resize(piece.size());
    b.read_at(at, other);
    equal = equal && std::memcmp(piece.data(), other.data(), piece.size()) == 0;
  });
  return equal;
}

Digest content_digest(const InputFile& file) {
  Hasher hasher;
  stream(file, [&](int64_t, std::span<const std::byte> piece) { hasher.update(piece); });
  return hasher.digest();
}

Digest append_hashed(const InputFile& from, OutputFile& to) {
  Hasher hasher;
  stream(from, [&](int64_t, std::span<const std::byte> piece) {
    hasher.update(piece);
    to.append(piece);
  });
  return hasher.digest();
}

}  // namespace sutor
