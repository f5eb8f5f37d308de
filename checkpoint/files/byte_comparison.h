// Whether two places hold the same bytes: one is streamed, the other read beside it. At most a
// piece of each is in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace sutor {

class ByteComparison {
 public:
  // Fills `into` with the other place's bytes from `offset` on.
  using Read = std::function<void(int64_t offset, std::span<std::byte> into)>;

  // The first piece is compared with what `other` has at `begin`.
  explicit ByteComparison(Read other, int64_t begin = 0) : other_(std::move(other)), at_(begin) {}

  // Compares the next piece. False from the first one on that differs; the other place is not read
  // any more then.
  bool add(std::span<const std::byte> chunk) {
    if (!equal_ || chunk.empty()) return equal_;
    buffer_.resize(chunk.size());
    other_(at_, buffer_);
    at_ += static_cast<int64_t>(chunk.size());
    equal_ = std::memcmp(chunk.data(), buffer_.data(), chunk.size()) == 0;
    return equal_;
  }
  bool equal() const { return equal_; }

 private:
  Read other_;
  int64_t at_;
  bool equal_ = true;
  std::vector<std::byte> buffer_;
};

}  // namespace sutor
