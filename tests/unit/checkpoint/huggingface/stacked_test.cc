// Experts that lie interleaved, transposed and in MXFP4 are read in all their pieces as what they
// stand for, and nothing takes their bytes for a tensor of their own.
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/compare/tensor_diff.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/huggingface/random_model.h"
#include "checkpoint/huggingface/stored_bytes.h"
#include "checkpoint/store/open_model.h"
#include "tests/support/base_store_builder.h"
#include "tests/support/expect_error.h"
#include "tests/support/stacked_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::expect_error;
using testing::OwnedTensor;
using testing::RawTensor;
using testing::StackedModel;
using testing::TempDir;
using Layers = std::array<bool, StackedModel::kLayers>;

const std::vector<Layers> kForms = {{false, false}, {true, true}, {false, true}};

class Stacked : public ::testing::Test {
 protected:
  // The model as directories and stores, in all forms.
  std::vector<fs::path> all_forms() {
    std::vector<fs::path> paths;
    for (size_t i = 0; i < kForms.size(); ++i) {
      const std::string name = "m" + std::to_string(i);
      paths.push_back(model_.write(dir_, name, kForms[i]));
      testing::make_store(paths.back(), dir_ / (name + "-store"));
      paths.push_back(dir_ / (name + "-store"));
    }
    return paths;
  }
  // A directory in which one tensor was replaced.
  std::unique_ptr<ModelDirectory> with(const std::string& name, const RawTensor* other) {
    std::vector<RawTensor> tensors = model_.stored({true, true});
    const auto at = std::find_if(tensors.begin(), tensors.end(),
                                 [&](const RawTensor& t) { return t.name == name; });
    EXPECT_NE(at, tensors.end());
    if (other) *at = *other;
    if (!other) tensors.erase(at);
    fs::remove_all(dir_ / "other");
    return open_model(StackedModel::write(dir_, "other", tensors, true));
  }

  TempDir dir_;
  StackedModel model_;
};

TEST_F(Stacked, AllRowsAndColumnsAreTheModels) {
  for (const fs::path& path : all_forms()) {
    SCOPED_TRACE(path.string());
    const auto directory = open_model(path);
    directory->check(model_.map());
    EXPECT_TRUE(directory->unexpected(model_.map()).empty());
    for (const TensorEntry& entry : model_.map().entries()) {
      const std::vector<float> whole = model_.values(entry);
      const int64_t rows = entry.shape[0], columns = static_cast<int64_t>(whole.size()) / rows;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        for (int64_t r = 0; r < rows; r += 7) {
          for (int64_t c = 0; c < columns; c += 11) {
            for (const int64_t n : {int64_t{1}, int64_t{5}, rows}) {
              for (const int64_t m : {int64_t{1}, int64_t{33}, columns}) {
                OwnedTensor slice(entry, dtype, r, std::min(n, rows - r), c,
                                  std::min(m, columns - c));
                directory->load(entry, slice.view);
                std::vector<float> expected;
                for (int64_t i = 0; i < slice.view.row_count; ++i) {
                  const auto at = whole.begin() + (r + i) * columns + c;
                  expected.insert(expected.end(), at, at + slice.view.columns());
                }
                ASSERT_EQ(slice.bytes, testing::to_bytes(expected, dtype)) << entry.name;
              }
            }
          }
        }
      }
    }
  }
}

TEST_F(Stacked, TheirBytesAreNobodysRange) {
  const auto plain = open_model(model_.write(dir_, "plain", {false, true}));
  for (const TensorEntry& entry : model_.map().entries()) {
    const ResolvedSource found = *plain->resolve(entry);
    const bool own = entry.layer < 0 || (entry.projection == "down" && entry.kind() == "bias");
    EXPECT_EQ(found.contiguous(), own) << entry.name;
    if (!own) {
      EXPECT_THROW(found.begin(), Error);
    }
    // The digest of what lies scattered is that of the values in a row.
    if (entry.layer != 1 || entry.kind() == "bias") {
      const auto bytes = testing::to_bytes(model_.values(entry), DType::kBF16);
      EXPECT_EQ(stored_digest(*plain, entry, found), xxh3(bytes)) << entry.name;
    }
  }
}

TEST_F(Stacked, ReadsEndAnywhere) {
  for (const fs::path& path : all_forms()) {
    const auto directory = open_model(path);
    for (const TensorEntry& entry : model_.map().entries()) {
      for (int64_t row = 0; row < entry.shape[0]; ++row) {
        const int64_t end = directory->read_end_row(entry, row, 100);
        ASSERT_GT(end, row);
        ASSERT_LE(end, entry.shape[0]);
      }
    }
  }
}

TEST_F(Stacked, StoresGiveTheDirectoryBack) {
  for (size_t i = 0; i < kForms.size(); ++i) {
    const std::string name = "m" + std::to_string(i);
    const fs::path source = model_.write(dir_, name, kForms[i]);
    testing::make_store(source, dir_ / (name + "-store"));
    testing::restore_store(dir_ / (name + "-store"), dir_ / (name + "-back"));
    for (const char* file : {"config.json", "model.safetensors"}) {
      EXPECT_EQ(dir_.read(source / file), dir_.read(dir_ / (name + "-back") / file));
    }
  }
}

TEST_F(Stacked, AComparisonTakesThemApart) {
  const std::vector<fs::path> paths = {model_.write(dir_, "bf16", {false, false}),
                                       model_.write(dir_, "mxfp4", {true, false})};
  const auto set = [&](const fs::path& path) {
    return TensorSet(path, ArtifactKind::kModelDirectory, &model_.map());
  };
  TensorSet a = set(paths[0]), b = set(paths[1]);
  const SetDiff diff = diff_sets(a, b, /*distances=*/true, 2);
  EXPECT_EQ(diff.tensors.size(), model_.map().size());
  for (const auto& [name, tensor] : diff.tensors) {
    const TensorEntry& entry = *model_.map().find(name);
    const bool other = entry.layer == 0 && entry.kind() == "weight";
    EXPECT_EQ(tensor.change, other ? TensorChange::kDType : TensorChange::kEqual) << name;
    if (other) {
      EXPECT_EQ(tensor.distance->max_abs, 0) << name;
    }
  }
}

TEST_F(Stacked, OneChangedElementIsThatOfOneExpert) {
  std::vector<RawTensor> tensors = model_.stored({false, false});
  // Of layer 0: expert 1, row 5 of the disk, column 7: the gate's or up's 3rd row.
  tensors[1].bytes[2 * ((1 * StackedModel::kIn + 5) * 2 * StackedModel::kInner + 7)] ^=
      std::byte{1};
  StackedModel::write(dir_, "changed", tensors, false);
  model_.write(dir_, "mixed", {false, true});
  // Another form in layer 1, so that names differ and stacks are taken apart.
  TensorSet a(dir_ / "mixed", ArtifactKind::kModelDirectory, &model_.map());
  TensorSet b(dir_ / "changed", ArtifactKind::kModelDirectory, &model_.map());
  const SetDiff diff = diff_sets(a, b, false, 2);
  for (const auto& [name, tensor] : diff.tensors) {
    EXPECT_EQ(tensor.change == TensorChange::kValues, name == StackedModel::name(0, 1, "up"))
        << name;
  }
}

TEST_F(Stacked, FormsThatDoNotFitAreRefused) {
  const std::string at = StackedModel::stack(1) + "gate_up_proj";
  const auto check = [&](const std::string& name, const RawTensor* other) {
    with(name, other)->check(model_.map());
  };
  expect_error(ErrorCode::kBadStoredDType, {at + "_blocks", at + "_scales"},
               [&] { check(at + "_scales", nullptr); });
  RawTensor scales{at + "_scales", "U8", {3, 64, 4}, std::vector<std::byte>(3 * 64 * 4)};
  expect_error(ErrorCode::kBadStoredDType, {at + "_scales", "[3, 64, 2]"},
               [&] { check(scales.name, &scales); });
  scales = {at + "_scales", "I8", {3, 64, 2}, std::vector<std::byte>(3 * 64 * 2)};
  expect_error(ErrorCode::kBadStoredDType, {"I8"}, [&] { check(scales.name, &scales); });
  RawTensor blocks{at + "_blocks", "U8", {3, 63, 2, 16}, std::vector<std::byte>(3 * 63 * 32)};
  expect_error(ErrorCode::kWrongShape, {at + "_blocks", "[3, 64, 2, 16]"},
               [&] { check(blocks.name, &blocks); });
  blocks = {at + "_blocks", "I8", {3, 64, 2, 16}, std::vector<std::byte>(3 * 64 * 32)};
  expect_error(ErrorCode::kWrongShape, {at + "_blocks", "MXFP4"},
               [&] { check(blocks.name, &blocks); });
  expect_error(ErrorCode::kMissingTensor, {"down_proj"},
               [&] { check(StackedModel::stack(0) + "down_proj_blocks", nullptr); });
}

TEST(StackedLarge, BlocksOfLinesDoNotShow) {
  TempDir dir;
  for (const auto& [in, inner] : {std::pair<int64_t, int64_t>{700, 600}, {3, 140000}}) {
    TensorEntry entry{.name = "up", .shape = {inner, in}};
    entry.sources = {{.name = "w",
                      .index = 1,
                      .row_begin = 1,
                      .row_step = 2,
                      .transposed = true,
                      .disk_shape = {2, in, 2 * inner}}};
    std::vector<std::byte> bytes(static_cast<size_t>(2 * in * 2 * inner * 2));
    std::mt19937 random(3);
    for (size_t i = 0; i < bytes.size(); i += 4) {
      const uint32_t word = random() & 0x3fff3fff;
      std::memcpy(bytes.data() + i, &word, 4);
    }
    fs::remove_all(dir / "m");
    StackedModel::write(dir, "m", {{"w", "BF16", {2, in, 2 * inner}, bytes}}, false);
    const HfDirectory directory(dir / "m");
    OwnedTensor slice(entry, DType::kBF16, 2, inner - 3, 1, in - 1);
    directory.load(entry, slice.view);
    const auto* elements = reinterpret_cast<const uint16_t*>(bytes.data());
    const auto* found = reinterpret_cast<const uint16_t*>(slice.bytes.data());
    for (int64_t r = 2; r < inner - 1; ++r) {
      for (int64_t c = 1; c < in; ++c) {
        ASSERT_EQ(*found++, elements[(in + c) * 2 * inner + 2 * r + 1]) << r << " " << c;
      }
    }
  }
}

TEST_F(Stacked, RandomModelsAreStackedAsTheirSourcesSay) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    fs::remove_all(dir_ / "random");
    write_random_model(dir_ / "random", model_.map(),
                       {.seed = 4, .dtype = dtype, .other_files = {{"config.json", "{}"}}});
    const HfDirectory directory(dir_ / "random");
    directory.check(model_.map());
    EXPECT_EQ(directory.num_tensors(), 9u);  // four of each layer and the embedding
    EXPECT_TRUE(directory.unexpected(model_.map()).empty());
  }
}

TEST(StackedGolden, EveryScaleAndElementIsWhatTransformersMakesOfIt) {
  TempDir dir;
  dir.write("m/config.json", "{}");
  fs::copy_file(SUTOR_TEST_DATA "/golden/mxfp4/all_values.safetensors",
                dir / "m/model.safetensors");
  const HfDirectory directory(dir / "m");
  TensorEntry entry{.name = "w", .shape = {256, 32}};
  entry.sources = {{.name = "w", .index = 0, .transposed = true, .disk_shape = {1, 32, 256}}};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    TensorEntry theirs = entry;
    theirs.sources[0].name = dtype == DType::kF32 ? "fp32" : "bf16";
    OwnedTensor ours(entry, dtype), golden(theirs, dtype);
    directory.load(entry, ours.view);
    directory.load(theirs, golden.view);
    EXPECT_EQ(ours.bytes, golden.bytes) << name_of(dtype);
  }
}

}  // namespace
}  // namespace sutor
