#include "checkpoint/files/file_content.h"

#include <algorithm>
#include <vector>

#include "checkpoint/files/byte_comparison.h"

namespace sutor {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 20;

}  // namespace

void stream_content(const InputFile& file,
                    const std::function<void(std::span<const std::byte>)>& sink) {
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(kChunkBytes, file.size())));
  for (int64_t at = 0; at < file.size(); at += kChunkBytes) {
    const auto chunk =
        std::span(buffer).first(static_cast<size_t>(std::min(kChunkBytes, file.size() - at)));
    file.read_at(at, chunk);
    sink(chunk);
  }
}

bool same_content(const InputFile& a, const InputFile& b) {
  if (a.size() != b.size()) return false;
  ByteComparison comparison(
      [&](int64_t offset, std::span<std::byte> into) { b.read_at(offset, into); });
  stream_content(a, [&](std::span<const std::byte> bytes) { comparison.add(bytes); });
  return comparison.equal();
}

Digest content_digest(const InputFile& file) {
  Hasher hasher;
  stream_content(file, [&](std::span<const std::byte> chunk) { hasher.update(chunk); });
  return hasher.digest();
}

Digest append_hashed(const InputFile& from, OutputFile& to) {
  Hasher hasher;
  stream_content(from, [&](std::span<const std::byte> chunk) {
    hasher.update(chunk);
    to.append(chunk);
  });
  return hasher.digest();
}

}  // namespace sutor
