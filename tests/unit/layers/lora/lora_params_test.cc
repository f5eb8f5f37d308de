// How low-rank pairs start: the same whatever pieces they are filled in.
#include "layers/lora/lora_params.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace sutor {
namespace {

std::vector<float> initial(const std::string& name, std::vector<int64_t> shape, int64_t row_begin,
                           int64_t row_count, int64_t col_begin, int64_t col_count) {
  std::vector<float> values(static_cast<size_t>(row_count * col_count), -7.0f);
  fill_initial_lora({.name = name,
                     .dtype = DType::kF32,
                     .global_shape = std::move(shape),
                     .row_begin = row_begin,
                     .row_count = row_count,
                     .col_begin = col_begin,
                     .col_count = col_count,
                     .data = reinterpret_cast<std::byte*>(values.data())},
                    5);
  return values;
}

TEST(LoraParams, ColumnsStartAsThoseOfTheWholePair) {
  const std::string a = lora_name("model.layers.0.self_attn.o_proj.weight", 'A');
  const std::vector<float> full = initial(a, {4, 12}, 0, 4, 0, 12);
  for (int64_t col = 0; col < 12; ++col) {
    for (int64_t count = 0; col + count <= 12; ++count) {
      std::vector<float> expected;
      for (int64_t row = 1; row < 4; ++row) {
        const auto begin = full.begin() + row * 12 + col;
        expected.insert(expected.end(), begin, begin + count);
      }
      EXPECT_EQ(initial(a, {4, 12}, 1, 3, col, count), expected);
    }
  }
}

TEST(LoraParams, AIsBoundedByTheInputWidthAndBIsZero) {
  const std::string weight = "model.layers.0.self_attn.o_proj.weight";
  for (const float value : initial(lora_name(weight, 'A'), {8, 100}, 0, 8, 50, 50)) {
    EXPECT_LE(std::abs(value), 0.1f);
    EXPECT_NE(value, 0.0f);
  }
  EXPECT_EQ(initial(lora_name(weight, 'B'), {6, 8}, 0, 6, 2, 3), std::vector<float>(18, 0.0f));
}

}  // namespace
}  // namespace sutor
