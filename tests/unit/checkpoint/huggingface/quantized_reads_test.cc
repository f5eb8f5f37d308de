// What is fetched of quantised matrices: nothing to open a model, and for some rows their scales.
#include <gtest/gtest.h>

#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/quantized/quantized.h"
#include "tests/support/expect_error.h"
#include "tests/support/stacked_model.h"

namespace sutor {
namespace {

using testing::OwnedTensor;
using testing::RawTensor;
using testing::TempDir;

constexpr int64_t kRows = 10, kColumns = 16, kBlockRows = 4, kBlockColumns = 8;

int code_at(int64_t row, int64_t column) { return static_cast<int>(8 + row + column); }
float fp8_scale_at(int64_t row, int64_t column) {
  return static_cast<float>(1 + row / kBlockRows * 2 + column / kBlockColumns);
}

// "fp8" in blocks, with three by two scales; "int4" in groups of eight, with two scales a row.
class QuantizedReads : public ::testing::Test {
 protected:
  void SetUp() override {
    RawTensor codes{"fp8", "F8_E4M3", {kRows, kColumns}, {}};
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      codes.bytes.push_back(static_cast<std::byte>(code_at(i / kColumns, i % kColumns)));
    }
    std::vector<float> blocks = {1, 2, 3, 4, 5, 6}, groups;
    for (int i = 0; i < 2 * kRows; ++i) groups.push_back(static_cast<float>(i + 1));
    RawTensor packed{"int4_packed", "I32", {kRows, kColumns / 8}, {}};
    packed.bytes.assign(static_cast<size_t>(kRows * kColumns / 2), std::byte{0x99});  // all are 1
    dir_.write("config.json", R"({"dtype": "float32",
               "quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 8]}})");
    testing::write_raw(dir_ / "model.safetensors",
                       {codes,
                        {"fp8_scale_inv", "F32", {3, 2}, testing::to_bytes(blocks, DType::kF32)},
                        packed,
                        {"int4_scale", "F32", {kRows, 2}, testing::to_bytes(groups, DType::kF32)}});
    map_.add({.name = "fp8", .shape = {kRows, kColumns}});
    map_.add({.name = "int4", .shape = {kRows, kColumns}});
  }

  TempDir dir_;
  TensorMap map_;
};

TEST_F(QuantizedReads, OpeningAndCheckingFetchesNoWeight) {
  const HfDirectory model(dir_.path());
  model.check(map_);
  EXPECT_EQ(model.fetched_bytes(), 0);
}

TEST_F(QuantizedReads, ScalesThatDoNotFitAreFoundWithoutReadingThem) {
  TensorMap other;
  other.add({.name = "fp8", .shape = {kRows, kColumns}});
  dir_.write("config.json", R"({"dtype": "float32",
             "quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 8]}})");
  const HfDirectory model(dir_.path());
  testing::expect_error(ErrorCode::kBadStoredDType, {"fp8_scale_inv", "do not fit"},
                        [&] { model.check(other); });
  EXPECT_EQ(model.fetched_bytes(), 0);
}

TEST_F(QuantizedReads, RowsComeWithTheirOwnScalesAlone) {
  for (int64_t begin = 0; begin <= kRows; ++begin) {
    for (int64_t count = 0; count <= kRows - begin; ++count) {
      const HfDirectory model(dir_.path());
      OwnedTensor fp8(*map_.find("fp8"), DType::kF32, begin, count);
      model.load(*map_.find("fp8"), fp8.view);
      const int64_t blocks =
          count == 0 ? 0 : (begin + count - 1) / kBlockRows - begin / kBlockRows + 1;
      EXPECT_EQ(model.fetched_bytes(), count * kColumns + blocks * 2 * 4) << begin << " " << count;
      const std::vector<float> values = fp8.values();
      for (int64_t i = 0; i < count * kColumns; ++i) {
        const int64_t row = begin + i / kColumns, column = i % kColumns;
        const auto code = static_cast<uint8_t>(code_at(row, column));
        ASSERT_EQ(values[i], fp8_e4m3_value(code) * fp8_scale_at(row, column));
      }
      const int64_t before = model.fetched_bytes();
      OwnedTensor int4(*map_.find("int4"), DType::kF32, begin, count);
      model.load(*map_.find("int4"), int4.view);
      EXPECT_EQ(model.fetched_bytes() - before, count * (kColumns / 2 + 2 * 4));
      const std::vector<float> packed = int4.values();
      for (int64_t i = 0; i < count * kColumns; ++i) {
        const int64_t row = begin + i / kColumns;
        ASSERT_EQ(packed[i], static_cast<float>(2 * row + i % kColumns / 8 + 1));
      }
    }
  }
}

}  // namespace
}  // namespace sutor
