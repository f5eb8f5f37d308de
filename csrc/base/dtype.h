// Element types of tensors on disk and in messages, without torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace sutor {

enum class DType : uint8_t { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

size_t size_of(DType dtype);
// The safetensors spelling: "F32", "BF16", "I64" ...
std::string_view name_of(DType dtype);
// Takes the recipe's spelling ("fp32", "bf16", "fp16") or that of safetensors; throws E0212 for
// another text.
DType parse_dtype(std::string_view text);

// Of a tensor of this shape; 1 for a scalar.
inline int64_t num_elements(std::span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

// Copies `count` elements from `from` to `to`, converting between F32, BF16 and F16 (round to
// nearest even; NaN stays NaN). For equal types every bit is kept. Throws E0306 for other pairs.
void convert_elements(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype,
                      int64_t count);

}  // namespace sutor
