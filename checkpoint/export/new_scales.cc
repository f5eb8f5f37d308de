#include "checkpoint/export/new_scales.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "checkpoint/huggingface/quantized_source.h"

namespace sutor {
namespace {

// The exponent of a scale that is a power of two, for E4M3.
int scale_exponent(float largest, bool mx_scales) {
  if (!mx_scales) {
    int exponent = 0;
    const float fraction = std::frexp(largest / kFp8Largest, &exponent);
    return fraction == 0.5f ? exponent - 1 : exponent;  // the next power of two, or this one
  }
  // Rounded up where the second bit of the mantissa would round it, as for elements of one bit.
  uint32_t bits;
  std::memcpy(&bits, &largest, sizeof(bits));
  return static_cast<int>((bits + (uint32_t{1} << 21)) >> 23) - 127 - 8;
}

struct ScaleAndZero {
  float scale = 1;
  int zero = 0;
};

// Before the scale is rounded to the dtype in which it is stored.
ScaleAndZero scale_of(const QuantizedForm& form, float least, float most) {
  const float largest = std::max(-least, most);
  const bool fp8 = form.encoding == Encoding::kFp8;
  if (fp8 && form.powers_of_two) {
    if (largest == 0) return {};
    return {std::ldexp(1.0f, std::clamp(scale_exponent(largest, form.mx_scales), -127, 127)), 0};
  }
  if (fp8) return {largest / kFp8Largest, 0};
  const int half = 1 << (form.bits - 1);
  const auto range = static_cast<float>(2 * half - 1);
  if (!form.zero_points) return {largest / (range / 2), 0};
  const float scale = (most - least) / range;
  if (scale == 0) return {0, -half};
  const float zero = static_cast<float>(-half) - least / scale;
  return {scale, static_cast<int>(std::nearbyint(
                     std::clamp(zero, static_cast<float>(-half), static_cast<float>(half - 1))))};
}

// What the library that made the form stores instead of zero, so that nothing is divided by it.
float smallest_scale(const QuantizedForm& form) {
  return form.inverse_name ? 1.0f : std::numeric_limits<float>::epsilon();
}

// Appends the stored bytes of the scales of some rows of blocks, and sets the scales to what these
// bytes stand for.
void store_scales(const QuantizedForm& form, std::vector<float>& scales,
                  std::vector<std::byte>& bytes) {
  const size_t at = bytes.size();
  if (form.base.exponents) {
    for (const float scale : scales)
      bytes.push_back(static_cast<std::byte>(std::ilogb(scale) + 127));
    return;
  }
  const DType dtype = form.base.dtype;
  const auto count = static_cast<int64_t>(scales.size());
  auto* numbers = reinterpret_cast<std::byte*>(scales.data());
  bytes.resize(at + scales.size() * size_of(dtype));
  const auto round = [&] {
    convert_elements(numbers, DType::kF32, bytes.data() + at, dtype, count);
    convert_elements(bytes.data() + at, dtype, numbers, DType::kF32, count);
  };
  round();
  if (std::find(scales.begin(), scales.end(), 0.0f) == scales.end()) return;
  std::replace(scales.begin(), scales.end(), 0.0f, smallest_scale(form));
  round();
}

bool are_powers_of_two(const std::vector<float>& scales) {
  return std::all_of(scales.begin(), scales.end(), [](float scale) {
    int exponent;
    return std::frexp(scale, &exponent) == 0.5f;
  });
}

}  // namespace

QuantizedForm quantized_form(const ResolvedSource& found, const TensorEntry& tensor,
                             const ModelDirectory& base) {
  QuantizedForm form{.encoding = found.encoding,
                     .row_bytes = found.row_stride,
                     .base = read_scales(found, tensor, base.quantization()),
                     .inverse_name = found.inverse_name};
  if (found.encoding == Encoding::kPackedInts) form.bits = found.bits;
  form.zero_points = found.zero_points.has_value();
  form.packed_zero_points = form.zero_points && found.zero_points->entry->dtype == DType::kI32;
  form.powers_of_two = form.encoding == Encoding::kFp8 &&
                       (form.base.exponents || base.quantization().power_of_two_scales() ||
                        are_powers_of_two(form.base.values));
  form.mx_scales = form.base.exponents && !form.inverse_name && form.base.block_rows == 1 &&
                   form.base.block_cols == kMxfp4Group;
  return form;
}

void set_scales(const QuantizedForm& form, const Extremes& extremes, BlockScales& scales,
                std::vector<std::byte>& bytes) {
  scales.values.resize(extremes.least.size());
  if (form.zero_points) scales.zero_points.resize(extremes.least.size());
  for (size_t i = 0; i < scales.values.size(); ++i) {
    const ScaleAndZero found = scale_of(form, extremes.least[i], extremes.most[i]);
    scales.values[i] = found.scale;
    if (form.zero_points) scales.zero_points[i] = static_cast<int8_t>(found.zero);
  }
  store_scales(form, scales.values, bytes);
}

std::vector<std::byte> stored_zero_points(const QuantizedForm& form,
                                          const std::vector<int8_t>& zeros) {
  std::vector<std::byte> bytes;
  if (!form.packed_zero_points) {
    for (const int8_t zero : zeros) bytes.push_back(static_cast<std::byte>(zero));
    return bytes;
  }
  const int64_t cols = form.base.cols, rows = static_cast<int64_t>(zeros.size()) / cols;
  const int64_t in_word = 32 / form.bits;
  std::vector<uint32_t> words(static_cast<size_t>((rows + in_word - 1) / in_word * cols));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < cols; ++c) {
      const int code = zeros[static_cast<size_t>(row * cols + c)] + (1 << (form.bits - 1));
      words[static_cast<size_t>(row / in_word * cols + c)] |= static_cast<uint32_t>(code)
                                                              << (row % in_word * form.bits);
    }
  }
  bytes.resize(words.size() * sizeof(uint32_t));
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

}  // namespace sutor
