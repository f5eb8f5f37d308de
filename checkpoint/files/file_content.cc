#include "checkpoint/files/file_content.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

namespace sutor {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 20;

void stream(const InputFile& file,
            const std::function<void(int64_t at, std::span<const std::byte>)>& sink) {
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(kChunkBytes, file.size())));
  for (int64_t at = 0; at < file.size(); at += kChunkBytes) {
    const auto chunk =
        std::span(buffer).first(static_cast<size_t>(std::min(kChunkBytes, file.size() - at)));
    file.read_at(at, chunk);
    sink(at, chunk);
  }
}

}  // namespace

bool same_content(const InputFile& a, const InputFile& b) {
  if (a.size() != b.size()) return false;
  bool equal = true;
  std::vector<std::byte> other;
  stream(a, [&](int64_t at, std::span<const std::byte> chunk) {
    other.resize(chunk.size());
    b.read_at(at, other);
    equal = equal && std::memcmp(chunk.data(), other.data(), chunk.size()) == 0;
  });
  return equal;
}

Digest content_digest(const InputFile& file) {
  Hasher hasher;
  stream(file, [&](int64_t, std::span<const std::byte> chunk) { hasher.update(chunk); });
  return hasher.digest();
}

Digest append_hashed(const InputFile& from, OutputFile& to) {
  Hasher hasher;
  stream(from, [&](int64_t, std::span<const std::byte> chunk) {
    hasher.update(chunk);
    to.append(chunk);
  });
  return hasher.digest();
}

}  // namespace sutor
