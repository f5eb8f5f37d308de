// Encodes and decodes numbers and names of index files: little endian, without padding.
#pragma once

#include <fmt/format.h>

#include <bit>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "csrc/base/error.h"

namespace sutor {

static_assert(std::endian::native == std::endian::little, "index files are little endian");

template <typename T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Reads numbers from the front of an index file and never beyond its end (E0345).
class IndexCursor {
 public:
  // Both arguments must outlive the cursor. `where`: the file, for messages.
  IndexCursor(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}

  std::string_view take(size_t size) {
    if (rest_.size() < size) fail_index("it ends early");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  template <typename T>
  T take() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  // `count` numbers; allocates no more memory than the file can fill.
  template <typename T>
  std::vector<T> take_list(int64_t count) {
    if (count < 0 || static_cast<uint64_t>(count) > left() / sizeof(T)) fail_index("it ends early");
    std::vector<T> values(static_cast<size_t>(count));
    const std::string_view bytes = take(values.size() * sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  size_t left() const { return rest_.size(); }
  [[noreturn]] void fail_index(const std::string& reason) const {
    fail(ErrorCode::kBadTileIndex, "{} is not a valid tile index: {}", where_, reason);
  }

 private:
  std::string_view rest_;
  const std::string& where_;
};

}  // namespace sutor
