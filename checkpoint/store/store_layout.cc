#include "checkpoint/store/store_layout.h"

#include <algorithm>

#include "checkpoint/format/tile_bytes.h"
#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr size_t kMaxAxes = 32;          // of HDF5
constexpr size_t kMaxNameBytes = 10000;  // HDF5 keeps a name in a header message of 64 KiB
constexpr size_t kMaxIndexedAxes = 255;
constexpr int64_t kLeastBlockBytes = 64;
constexpr int64_t kWidestElement = 8;

// Types that are stored as arrays of their own shape; h5.h says how.
bool is_array_type(std::string_view dtype) {
  constexpr std::string_view kTypes[] = {
      "F64", "F32", "BF16", "F16",  "I64",     "I32",     "I16",     "I8",          "U64",
      "U32", "U16", "U8",   "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"};
  return std::find(std::begin(kTypes), std::end(kTypes), dtype) != std::end(kTypes);
}

int64_t blocks_of_matrices(int64_t matrix_rows, int64_t matrix_bytes) {
  const int64_t unit = matrix_rows % 2 == 0 ? matrix_bytes / 2 : matrix_bytes;
  for (int64_t n = num_blocks(unit); n <= unit / kLeastBlockBytes; ++n) {
    if (unit % n == 0 && unit / n % kWidestElement == 0) return unit / n;
  }
  return kBlockBytes;
}

}  // namespace

int64_t StoreLayout::tile_rows(int64_t tile_bytes) const {
  return std::clamp<int64_t>(tile_bytes / std::max<int64_t>(1, row_bytes), 1,
                             std::max<int64_t>(1, rows));
}

StoreLayout store_layout(const SafetensorsEntry& entry) {
  if (entry.name.size() > kMaxNameBytes) {
    fail(ErrorCode::kNotStorable,
         "tensor `{}...` has a name of {} bytes; a base store takes at most {}",
         entry.name.substr(0, 60), entry.name.size(), kMaxNameBytes);
  }
  if (entry.shape.size() > kMaxIndexedAxes) {
    fail(ErrorCode::kNotStorable, "tensor `{}` has {} axes; a base store takes at most {}",
         entry.name, entry.shape.size(), kMaxIndexedAxes);
  }
  StoreLayout layout;
  layout.block_bytes = kBlockBytes;
  if (!is_array_type(entry.dtype_name) || entry.shape.size() > kMaxAxes) {
    layout.type = is_array_type(entry.dtype_name) ? "U8" : entry.dtype_name;
    layout.dims = {entry.num_bytes()};
    layout.rows = entry.num_bytes();
    layout.row_bytes = 1;
    return layout;
  }
  layout.type = entry.dtype_name;
  layout.dims = entry.shape;
  layout.rows = entry.shape.empty() ? 1 : entry.shape[0];
  layout.row_bytes = layout.rows == 0 ? 0 : entry.num_bytes() / layout.rows;
  if (entry.shape.size() >= 3 && layout.row_bytes > 0) {
    layout.block_bytes = blocks_of_matrices(entry.shape[1], layout.row_bytes);
  }
  return layout;
}

std::string store_group(std::string_view tensor) {
  if (tensor.empty()) return "%";
  if (tensor == ".") return "%2E";
  std::string group;
  for (const char c : tensor) {
    if (c == '%' || c == '/' || c == '\0') {
      group += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    } else {
      group += c;
    }
  }
  return group;
}

}  // namespace sutor
