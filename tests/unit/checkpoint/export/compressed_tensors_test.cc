// Matrices in the forms of compressed-tensors: read to the bits that the library takes them apart
// to, whole and in slices, and quantised again to the bytes that it makes.
// See tests/golden/make_compressed_tensors.py, and make_ue8m0.py for what transformers makes.
#include <gtest/gtest.h>

#include <cstring>

#include "checkpoint/export/merged_export.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using testing::OwnedTensor;
using testing::TempDir;

const fs::path kGolden = SUTOR_TEST_DATA "/golden/compressed_tensors";
const fs::path kUe8m0 = SUTOR_TEST_DATA "/golden/ue8m0";

std::vector<std::byte> bytes_of(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry* entry = file.find(name);
  if (entry == nullptr) throw std::runtime_error("no " + name);
  std::vector<std::byte> bytes(static_cast<size_t>(entry->num_bytes()));
  file.read(*entry, 0, bytes);
  return bytes;
}

std::vector<float> floats_of(const SafetensorsFile& file, const std::string& name) {
  const std::vector<std::byte> bytes = bytes_of(file, name);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

class FolderOfMatrices : public ::testing::Test {
 protected:
  explicit FolderOfMatrices(const fs::path& folder)
      : meant_(folder / "meant.safetensors"), again_(folder / "again.safetensors"), base_(folder) {
    for (const SafetensorsEntry& entry : meant_.tensors()) {
      map_.add({.name = entry.name, .shape = entry.shape});
    }
  }
  // Every matrix with other values.
  std::vector<TrainedTensor> trained() {
    std::vector<TrainedTensor> all;
    for (const TensorEntry& entry : map_.entries()) {
      memory_.push_back(std::make_unique<OwnedTensor>(entry, DType::kF32,
                                                      floats_of(again_, "trained." + entry.name)));
      all.push_back(trained_tensor(memory_.back()->view));
    }
    return all;
  }

  void expect_values() {
    for (const TensorEntry& entry : map_.entries()) {
      OwnedTensor loaded(entry, DType::kF32);
      base_.load(entry, loaded.view);
      const std::vector<std::byte> expected = bytes_of(meant_, entry.name);
      EXPECT_EQ(std::memcmp(loaded.view.data, expected.data(), expected.size()), 0) << entry.name;
    }
  }
  // Exports all trained values, quantised again, into out/.
  MergedExport expect_requantised() {
    const QuantizedRule rule = QuantizedRule::kRequantize;
    MergedExport made = export_merged(base_, map_, trained(), dir_ / "out", {"x", {}}, rule);
    EXPECT_EQ(verify_merged(base_, map_, dir_ / "out", made.digests, rule).changed,
              static_cast<int64_t>(map_.size()));
    const SafetensorsFile merged(dir_ / "out/model.safetensors");
    for (const SafetensorsEntry& entry : merged.tensors()) {
      EXPECT_EQ(bytes_of(merged, entry.name), bytes_of(again_, entry.name)) << entry.name;
    }
    return made;
  }

  const SafetensorsFile meant_, again_;
  const HfDirectory base_;
  TensorMap map_;
  std::vector<std::unique_ptr<OwnedTensor>> memory_;
  TempDir dir_;
};

class CompressedTensors : public FolderOfMatrices {
 protected:
  CompressedTensors() : FolderOfMatrices(kGolden) {}
};

class PowersOfTwo : public FolderOfMatrices {
 protected:
  PowersOfTwo() : FolderOfMatrices(kUe8m0) {}
};

TEST_F(PowersOfTwo, AreReadAndMadeAsByTransformersInBytesAndInFloats) {
  base_.check(map_);
  expect_values();
  expect_requantised();
}

TEST_F(CompressedTensors, AllFormsAreKnownAndEveryTensorBelongsToOne) {
  base_.check(map_);
  EXPECT_EQ(map_.size(), 15u);
  EXPECT_TRUE(base_.unexpected(map_).empty());
}

TEST_F(CompressedTensors, ValuesHaveTheBitsOfTheLibrary) { expect_values(); }

TEST_F(CompressedTensors, SlicesOfRowsAndColumnsHaveTheSameValues) {
  for (const TensorEntry& entry : map_.entries()) {
    const std::vector<float> whole = floats_of(meant_, entry.name);
    const int64_t rows = entry.shape[0], columns = entry.shape[1];
    for (int64_t row = 0; row < rows; row += 3) {
      for (const int64_t count : {int64_t{1}, int64_t{5}, rows - row}) {
        for (int64_t col = 0; col < columns; col += 7) {
          const int64_t width = std::min<int64_t>(columns - col, 1 + col % 19);
          std::vector<float> part(static_cast<size_t>(std::min(count, rows - row) * width));
          ShardedTensor slice{.name = entry.name,
                              .dtype = DType::kF32,
                              .global_shape = entry.shape,
                              .row_begin = row,
                              .row_count = std::min(count, rows - row),
                              .data = reinterpret_cast<std::byte*>(part.data())};
          slice.col_begin = col;
          slice.col_count = width;
          base_.load(entry, slice);
          for (size_t i = 0; i < part.size(); ++i) {
            const auto r = row + static_cast<int64_t>(i) / width;
            const auto c = col + static_cast<int64_t>(i) % width;
            ASSERT_EQ(part[i], whole[static_cast<size_t>(r * columns + c)]) << entry.name;
          }
        }
      }
    }
  }
}

TEST_F(CompressedTensors, QuantisedAgainTheyHaveTheBytesOfTheLibrary) {
  const QuantizedRule rule = QuantizedRule::kRequantize;
  const MergedExport made = expect_requantised();
  EXPECT_EQ(made.rounding.tensors.size(), map_.size());
  const SafetensorsFile merged(dir_ / "out/model.safetensors");
  EXPECT_EQ(dir_.read("out/config.json"), dir_.read(kGolden / "config.json"));
  // Of each stored tensor a byte that somebody changes is noticed.
  const std::string whole = dir_.read("out/model.safetensors");
  for (const SafetensorsEntry& entry : merged.tensors()) {
    std::string bytes = whole;
    bytes[static_cast<size_t>(entry.end - 1)] ^= 1;
    dir_.write("out/model.safetensors", bytes);
    EXPECT_THROW(verify_merged(base_, map_, dir_ / "out", made.digests, rule), Error) << entry.name;
  }
}

TEST_F(CompressedTensors, DequantisedTheyArePlainAndNothingIsLeftBesideThem) {
  const QuantizedRule rule = QuantizedRule::kDequantize;
  const MergedExport made = export_merged(base_, map_, trained(), dir_ / "out", {"x", {}}, rule);
  EXPECT_EQ(verify_merged(base_, map_, dir_ / "out", made.digests, rule).dequantized,
            static_cast<int64_t>(map_.size()));
  const HfDirectory merged(dir_ / "out");
  EXPECT_EQ(merged.num_tensors(), map_.size());
  merged.check(map_);
  for (const TensorEntry& entry : map_.entries()) {
    OwnedTensor loaded(entry, DType::kBF16);
    merged.load(entry, loaded.view);
    const OwnedTensor expected(entry, DType::kBF16, floats_of(again_, "trained." + entry.name));
    EXPECT_EQ(loaded.values(), expected.values()) << entry.name;
  }
  const auto config = nlohmann::json::parse(dir_.read("out/config.json"));
  EXPECT_FALSE(config.contains("quantization_config"));
}

TEST_F(CompressedTensors, TheOthersStayQuantisedAndTheListOfIgnoredOnesGrows) {
  std::vector<TrainedTensor> one;
  for (TrainedTensor& tensor : trained()) {
    if (tensor.name == "m.w4-order-zero-points.weight") one.push_back(std::move(tensor));
  }
  const MergedExport made = export_merged(base_, map_, std::move(one), dir_ / "out", {"x", {}});
  EXPECT_EQ(verify_merged(base_, map_, dir_ / "out", made.digests).dequantized, 1);
  const HfDirectory merged(dir_ / "out");
  merged.check(map_);
  EXPECT_EQ(merged.num_tensors(), base_.num_tensors() - 4);
  const auto config = nlohmann::json::parse(dir_.read("out/config.json"));
  const nlohmann::json expected = {"lm_head", "m.w4-order-zero-points"};
  EXPECT_EQ(config["quantization_config"]["ignore"], expected);
}

TEST_F(CompressedTensors, TheBasesOwnValuesAreReportedAsUnchanged) {
  const TensorEntry& entry = *map_.find("m.fp8-tensor.weight");
  memory_.push_back(
      std::make_unique<OwnedTensor>(entry, DType::kF32, floats_of(meant_, entry.name)));
  const MergedExport made = export_merged(base_, map_, {trained_tensor(memory_.back()->view)},
                                          dir_ / "out", {"x", {}}, QuantizedRule::kRequantize);
  EXPECT_EQ(made.rounding.unchanged, std::vector<std::string>{entry.name});
}

}  // namespace
}  // namespace sutor
