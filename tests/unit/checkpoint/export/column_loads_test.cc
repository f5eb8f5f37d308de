// Columns of a model's, an adapter's and a pair's tensors equal those of the whole tensor, in every
// form on disk.
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/peft_adapter.h"
#include "checkpoint/export/trained_tensor.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/parallel.h"
#include "tests/support/base_store_builder.h"
#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::OwnedTensor;
using testing::TempDir;

// The same columns of the rows of a whole tensor.
std::vector<std::byte> slice_of(const OwnedTensor& whole, const ShardedTensor& slice) {
  const auto size = static_cast<int64_t>(size_of(slice.dtype));
  const int64_t row = slice.row_elements() * size;
  std::vector<std::byte> bytes;
  for (int64_t r = 0; r < slice.row_count; ++r) {
    const auto begin = whole.bytes.begin() + (slice.row_begin + r) * row + slice.col_begin * size;
    bytes.insert(bytes.end(), begin, begin + slice.columns() * size);
  }
  return bytes;
}

using Load = std::function<void(ShardedTensor&)>;

// Compares all rectangles of a small tensor, or some of a large one.
void expect_columns_of_whole(const TensorEntry& entry, DType dtype, const Load& load,
                             int64_t row_step = 1, int64_t col_step = 1) {
  OwnedTensor whole(entry, dtype);
  load(whole.view);
  const int64_t rows = entry.shape[0], row = whole.view.row_elements();
  for (int64_t r = 0; r < rows; r += row_step) {
    for (int64_t r_end = r; r_end <= rows; r_end += row_step) {
      for (int64_t c = 0; c < row; c += col_step) {
        for (int64_t c_end = c; c_end <= row; c_end += col_step) {
          OwnedTensor slice(entry, dtype, r, r_end - r, c, c_end - c);
          load(slice.view);
          ASSERT_EQ(slice.bytes, slice_of(whole, slice.view))
              << entry.name << " rows " << r << " to " << r_end << " columns " << c << " to "
              << c_end;
        }
      }
    }
  }
}

TEST(ColumnLoads, EveryFormOfAModelGivesTheColumnsOfItsTensors) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  for (const DType stored : {DType::kF32, DType::kBF16, DType::kF16}) {
    const std::string tag(name_of(stored));
    const auto own = testing::stored_per_expert(map, stored);
    const auto fused = testing::stored_fused(map, stored);
    std::vector<fs::path> paths = {testing::write_single(dir, tag + "own", own),
                                   testing::write_single(dir, tag + "fused", fused),
                                   testing::write_sharded(dir, tag + "sharded", own, 4)};
    for (size_t i = 0; i < 2; ++i) {
      const fs::path store = paths[i].string() + "-store";
      testing::make_store(paths[i], store);
      paths.push_back(store);
    }
    for (const fs::path& path : paths) {
      const auto model = open_model(path);
      for (const TensorEntry& entry : map.entries()) {
        for (const DType dtype : {DType::kF32, DType::kBF16}) {
          expect_columns_of_whole(entry, dtype,
                                  [&](ShardedTensor& slice) { model->load(entry, slice); });
        }
      }
    }
  }
}

TensorEntry single_tensor(std::vector<int64_t> shape) {
  TensorEntry entry;
  entry.name = "w";
  entry.shape = std::move(shape);
  entry.sources = {{.name = "w"}};
  return entry;
}

// A model of one tensor in BF16, and its store.
class LargeColumnLoads : public ::testing::Test {
 protected:
  void make(std::vector<int64_t> shape) {
    entry_ = single_tensor(std::move(shape));
    dir_.write("m/config.json", "{}");
    testing::write_bytes(dir_ / "m/model.safetensors", {{"w", "BF16", entry_.shape}});
    testing::make_store(dir_ / "m", dir_ / "store");
  }
  int64_t fetched(const std::string& path, int64_t col_begin, int64_t col_count) {
    const auto model = open_model(dir_ / path);
    OwnedTensor slice(entry_, DType::kBF16, 0, entry_.shape[0], col_begin, col_count);
    model->load(entry_, slice.view);
    return model->fetched_bytes();
  }

  TempDir dir_;
  TensorEntry entry_;
};

TEST_F(LargeColumnLoads, TilesAndBlocksDoNotShow) {
  make({9001, 1100});  // 19.8 MB: two tiles
  for (const char* path : {"m", "store"}) {
    const auto model = open_model(dir_ / path);
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      expect_columns_of_whole(
          entry_, dtype, [&](ShardedTensor& slice) { model->load(entry_, slice); }, 4000, 367);
    }
  }
}

TEST_F(LargeColumnLoads, NarrowGapsAreReadOverOnce) {
  make({2000, 1100});
  const int64_t row = 1100 * 2;
  EXPECT_EQ(fetched("m", 0, 550), 2000 * row - row / 2);
  EXPECT_LE(fetched("store", 275, 550), 2000 * row);  // no block twice
}

TEST_F(LargeColumnLoads, WideGapsAreNotFetched) {
  make({6, 3 << 20});  // rows of 6 MiB
  EXPECT_EQ(fetched("m", 1000, 500), 6 * 500 * 2);
  EXPECT_LE(fetched("store", 1000, 500), 6 * (1 << 20));
  for (const char* path : {"m", "store"}) {
    const auto model = open_model(dir_ / path);
    OwnedTensor whole(entry_, DType::kBF16);
    model->load(entry_, whole.view);
    for (const int64_t begin : {0, 1000, (3 << 20) - 700}) {
      OwnedTensor slice(entry_, DType::kBF16, 1, 5, begin, 700);
      model->load(entry_, slice.view);
      EXPECT_EQ(slice.bytes, slice_of(whole, slice.view));
    }
  }
}

TEST_F(LargeColumnLoads, ThreadsLoadAtOnce) {
  make({3000, 700});
  const auto model = open_model(dir_ / "store");
  OwnedTensor whole(entry_, DType::kF32);
  model->load(entry_, whole.view);
  parallel_tasks(4, 28, [&](int64_t i) {
    OwnedTensor slice(entry_, DType::kF32, 0, 3000, i * 25, 25);
    model->load(entry_, slice.view);
    EXPECT_EQ(slice.bytes, slice_of(whole, slice.view));
  });
}

TEST_F(LargeColumnLoads, ACorruptBlockOfAStoreIsE0347) {
  make({2000, 1100});
  std::string bytes = dir_.read("store/b00000.h5");
  bytes[bytes.size() / 2] ^= 1;
  dir_.write("store/b00000.h5", bytes);
  testing::expect_error(ErrorCode::kCorrupted, {"b00000.h5", "tensor `w`"},
                        [&] { fetched("store", 3, 2); });
}

TEST(ColumnLoads, TrainedTensorsInMemoryAndInAnAdapterGiveTheirColumns) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  const TensorEntry& entry = *map.find(testing::expert_name(1, "down"));
  OwnedTensor memory(entry, DType::kF32, testing::values_of(map, entry.name));
  const TrainedTensor trained = trained_tensor(memory.view);
  expect_columns_of_whole(entry, DType::kF32, trained.read);
  ExpertConfig config;
  config.experts[1] = {1};
  write_adapter(dir / "adapter", {trained}, config, {xxh3("base").text(), {}});
  const Adapter adapter(dir / "adapter");
  const std::vector<TrainedTensor> stored = adapter.trained_tensors();
  ASSERT_EQ(stored.size(), 1u);
  expect_columns_of_whole(entry, DType::kF32, stored[0].read);
}

TEST(ColumnLoads, PairsOfAPeftAdapterGiveTheirColumns) {
  TempDir dir;
  TensorEntry a = single_tensor({2, 12});
  a.name = "model.layers.0.self_attn.o_proj.lora_A.weight";
  std::vector<float> values(24);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 16;
  TensorEntry b = single_tensor({12, 2});
  b.name = "model.layers.0.self_attn.o_proj.lora_B.weight";
  OwnedTensor memory(a, DType::kF32, values), other_half(b, DType::kF32, values);
  write_peft_adapter(dir / "pairs", {trained_tensor(memory.view), trained_tensor(other_half.view)},
                     {.rank = 2});
  const PeftAdapter adapter(dir / "pairs");
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    expect_columns_of_whole(a, dtype, [&](ShardedTensor& slice) { adapter.load(slice); });
  }
}

}  // namespace
}  // namespace sutor
