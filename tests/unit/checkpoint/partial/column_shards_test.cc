// Checkpoints of pieces that are columns of rows: what any layout wrote any other reads, what is
// not there exactly once is refused, and a damaged byte is found and named.
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "checkpoint/compare/tensor_diff.h"
#include "checkpoint/compare/verification.h"
#include "checkpoint/export/trained_tensor.h"
#include "checkpoint/format/index_encoding.h"
#include "checkpoint/format/tile_coverage.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/error.h"
#include "csrc/base/h5.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::expect_error;
using testing::sample_meta;
using testing::SampleValues;
using testing::TempDir;

struct Rectangle {
  int64_t row_begin, row_end, col_begin, col_end;
};
using Layout = std::vector<Rectangle>;

std::vector<float> values_in(const std::vector<float>& whole, int64_t row,
                             const Rectangle& rectangle) {
  std::vector<float> values;
  for (int64_t r = rectangle.row_begin; r < rectangle.row_end; ++r) {
    const auto begin = whole.begin() + r * row;
    values.insert(values.end(), begin + rectangle.col_begin, begin + rectangle.col_end);
  }
  return values;
}

ShardedTensor shard_over(const IndexedTensor& tensor, const Rectangle& rectangle,
                         std::vector<float>& values) {
  return {.name = tensor.name,
          .dtype = tensor.dtype,
          .global_shape = tensor.shape,
          .row_begin = rectangle.row_begin,
          .row_count = rectangle.row_end - rectangle.row_begin,
          .col_begin = rectangle.col_begin,
          .col_count = rectangle.col_end - rectangle.col_begin,
          .data = reinterpret_cast<std::byte*>(values.data())};
}

std::vector<float> read_rectangle(const CheckpointReader& reader, const IndexedTensor& tensor,
                                  TensorKind kind, const Rectangle& rectangle) {
  std::vector<float> values(static_cast<size_t>((rectangle.row_end - rectangle.row_begin) *
                                                (rectangle.col_end - rectangle.col_begin)));
  reader.read(kind, shard_over(tensor, rectangle, values));
  return values;
}

// Writer w writes every writers-th rectangle of the layout, from w on.
std::vector<std::string> write_layout(const fs::path& root, const SampleValues& values,
                                      const Layout& layout, int writers) {
  begin_checkpoint(root, 1, "u");
  std::vector<std::string> records;
  for (int w = 0; w < writers; ++w) {
    CheckpointWriter writer(root, 1, "u", w);
    std::deque<std::vector<float>> memory;
    for (const IndexedTensor& tensor : values.tensors()) {
      for (const TensorKind kind : kAllKinds) {
        for (size_t i = static_cast<size_t>(w); i < layout.size(); i += writers) {
          memory.push_back(
              values_in(values.of(tensor.name, kind), tensor.row_elements(), layout[i]));
          writer.add(kind, shard_over(tensor, layout[i], memory.back()));
        }
      }
    }
    records.push_back(writer.write());
  }
  return records;
}

fs::path save_layout(const fs::path& root, const SampleValues& values, const Layout& layout,
                     int writers = 2) {
  const auto records = write_layout(root, values, layout, writers);
  return publish_checkpoint(root, 1, "u", records, sample_meta(1), values.tensors());
}

// Of a tensor of 24 rows of 16 elements.
const std::vector<Layout> kLayouts = {
    {{0, 24, 0, 16}},                                                // whole
    {{0, 7, 0, 16}, {7, 8, 0, 16}, {8, 24, 0, 16}},                  // rows
    {{0, 24, 0, 3}, {0, 24, 3, 13}, {0, 24, 13, 16}},                // columns
    {{0, 5, 0, 8}, {5, 24, 0, 8}, {0, 19, 8, 16}, {19, 24, 8, 16}},  // columns of rows
    {{0, 10, 0, 11}, {0, 18, 11, 16}, {18, 24, 6, 16}, {10, 24, 0, 6}, {10, 18, 6, 11}},  // a mill
    {{0, 24, 0, 1}, {0, 12, 1, 16}, {12, 24, 1, 2}, {12, 24, 2, 16}}};

TEST(ColumnShards, WhatAnyLayoutWroteAnyOtherReads) {
  const SampleValues values({{"down", DType::kF32, {24, 16}}, {"three", DType::kF32, {24, 4, 4}}});
  for (const Layout& written : kLayouts) {
    TempDir dir;
    const CheckpointReader reader(save_layout(dir.path(), values, written));
    reader.verify();
    for (const IndexedTensor& tensor : values.tensors()) {
      for (const TensorKind kind : kAllKinds) {
        for (const Layout& wanted : kLayouts) {
          for (const Rectangle& rectangle : wanted) {
            EXPECT_EQ(read_rectangle(reader, tensor, kind, rectangle),
                      values_in(values.of(tensor.name, kind), 16, rectangle));
          }
        }
      }
    }
  }
}

TEST(ColumnShards, EveryRectangleReadsFromTilesThatLieAcrossIt) {
  TempDir dir;
  const SampleValues values({{"w", DType::kF32, {24, 16}}});
  const IndexedTensor& tensor = values.tensors()[0];
  const CheckpointReader reader(save_layout(dir.path(), values, kLayouts[4]));
  for (int64_t row = 0; row <= 24; row += 3) {
    for (int64_t row_end = row; row_end <= 24; row_end += 5) {
      for (int64_t col = 0; col <= 16; ++col) {
        for (int64_t col_end = col; col_end <= 16; ++col_end) {
          const Rectangle rectangle{row, row_end, col, col_end};
          EXPECT_EQ(read_rectangle(reader, tensor, TensorKind::kExpAvg, rectangle),
                    values_in(values.of("w", TensorKind::kExpAvg), 16, rectangle));
        }
      }
    }
  }
}

TEST(ColumnShards, TilesOfSeveralBlocksReadAtAnyColumns) {
  TempDir dir;
  // 20.8 and 5.2 MB a kind; neither a row nor a strip of one divides a block of 1 MiB.
  const SampleValues values({{"w", DType::kF32, {5001, 1300}}});
  const IndexedTensor& tensor = values.tensors()[0];
  const CheckpointReader reader(
      save_layout(dir.path(), values, {{0, 5001, 0, 1040}, {0, 5001, 1040, 1300}}));
  EXPECT_EQ(reader.manifest().files.at(0).tiles, 6);
  EXPECT_EQ(reader.manifest().files.at(1).tiles, 3);
  for (const Rectangle& rectangle : Layout{{0, 5001, 0, 1300},
                                           {0, 5001, 0, 1040},
                                           {0, 5001, 517, 519},
                                           {17, 4990, 1000, 1100},
                                           {4032, 4034, 0, 1300},
                                           {300, 301, 1039, 1041},
                                           {251, 4700, 1299, 1300}}) {
    EXPECT_TRUE(read_rectangle(reader, tensor, TensorKind::kMaster, rectangle) ==
                values_in(values.of("w", TensorKind::kMaster), 1300, rectangle));
  }
}

TEST(ColumnShards, WideRowsReadAtAFewColumns) {
  TempDir dir;
  // Gaps of more than two blocks are not read over.
  const SampleValues values({{"w", DType::kF32, {5, 900001}}});
  const CheckpointReader reader(
      save_layout(dir.path(), values, {{0, 5, 0, 800000}, {0, 5, 800000, 900001}}));
  for (const Rectangle& rectangle :
       Layout{{0, 5, 0, 3}, {1, 5, 262143, 262146}, {0, 4, 799999, 800002}, {0, 5, 7, 900000}}) {
    EXPECT_TRUE(read_rectangle(reader, values.tensors()[0], TensorKind::kMaster, rectangle) ==
                values_in(values.of("w", TensorKind::kMaster), 900001, rectangle));
  }
}

TEST(ColumnShards, ShardsWithoutColumnsAddNothing) {
  TempDir dir;
  const SampleValues values({{"w", DType::kF32, {24, 16}}});
  const CheckpointReader reader(save_layout(
      dir.path(), values, {{0, 24, 0, 0}, {0, 24, 0, 16}, {0, 24, 16, 16}, {3, 3, 2, 5}}, 3));
  EXPECT_EQ(reader.manifest().files.size(), 1u);
}

TEST(ColumnShards, AMissingOrDoubleRectangleIsNotPublished) {
  TempDir dir;
  const SampleValues values({{"w", DType::kF32, {24, 16}}});
  const auto expect_refused = [&](const Layout& layout, const std::string& words) {
    expect_error(ErrorCode::kBadCoverage, {words + " of w (master) are there"},
                 [&] { save_layout(dir.path(), values, layout); });
    discard_checkpoint(dir.path(), 1, "u");
  };
  const std::string rows = "rows 0 to 23, columns ";
  expect_refused({{0, 24, 0, 8}}, rows + "8 to 15");
  expect_refused({{0, 24, 8, 16}}, rows + "0 to 7");
  expect_refused({{0, 24, 0, 4}, {0, 24, 10, 16}}, rows + "4 to 9");
  expect_refused({{0, 24, 0, 9}, {0, 24, 8, 16}}, rows + "8 to 8");
  expect_refused({{0, 24, 0, 16}, {5, 7, 3, 5}}, "rows 5 to 6, columns 3 to 4");
  expect_refused({{0, 24, 0, 8}, {0, 11, 8, 16}, {12, 24, 8, 16}},
                 "rows 11 to 11, columns 8 to 15");
  // As many elements as there are, but not all of them.
  expect_refused({{0, 24, 0, 8}, {0, 12, 8, 16}, {11, 23, 8, 16}},
                 "rows 11 to 11, columns 8 to 15");
  Layout mill = kLayouts[4];
  mill.pop_back();
  expect_refused(mill, "rows 10 to 17, columns 6 to 10");
}

TEST(ColumnShards, CoverageIsRefusedExactlyWhenAnElementIsNotThereOnce) {
  std::mt19937 random(7);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % n); };
  const IndexedTensor tensor{"w", DType::kF32, {5, 4}};
  int exact = 0;
  for (int round = 0; round < 20000; ++round) {
    // Cut in two again and again; then, in half of the rounds, one rectangle is moved or changed.
    std::vector<Tile> tiles(1);
    tiles[0].row_count = 5;
    tiles[0].col_count = 4;
    for (int64_t cuts = below(6); cuts > 0; --cuts) {
      Tile& tile = tiles[static_cast<size_t>(below(static_cast<int64_t>(tiles.size())))];
      Tile other = tile;
      if (below(2) && tile.row_count > 1) {
        tile.row_count = 1 + below(tile.row_count - 1);
        other.row_begin = tile.row_end();
        other.row_count -= tile.row_count;
      } else if (tile.col_count > 1) {
        tile.col_count = 1 + below(tile.col_count - 1);
        other.col_begin = tile.col_end();
        other.col_count -= tile.col_count;
      } else {
        continue;
      }
      tiles.push_back(other);
    }
    if (below(2)) {
      Tile& tile = tiles[static_cast<size_t>(below(static_cast<int64_t>(tiles.size())))];
      tile.row_begin = below(5);
      tile.row_count = 1 + below(5 - tile.row_begin);
      tile.col_begin = below(4);
      tile.col_count = 1 + below(4 - tile.col_begin);
    }
    std::shuffle(tiles.begin(), tiles.end(), random);
    int times[5][4] = {};
    std::vector<const Tile*> pointers;
    for (const Tile& tile : tiles) {
      pointers.push_back(&tile);
      for (int64_t r = tile.row_begin; r < tile.row_end(); ++r) {
        for (int64_t c = tile.col_begin; c < tile.col_end(); ++c) ++times[r][c];
      }
    }
    bool once = true;
    for (const auto& row : times) {
      for (const int n : row) once &= n == 1;
    }
    exact += once;
    bool accepted = true;
    try {
      check_covered(tensor, TensorKind::kMaster, pointers, "here");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBadCoverage);
      accepted = false;
    }
    ASSERT_EQ(accepted, once);
  }
  EXPECT_GT(exact, 5000);
  EXPECT_LT(exact, 15000);
}

TEST(ColumnShards, TheFileIsBrowsableByFirstRowAndColumn) {
  TempDir dir;
  const SampleValues values({{"w", DType::kF32, {24, 4, 4}}});
  const fs::path step = save_layout(dir.path(), values, kLayouts[3], 1);
  const h5::File file = h5::File::open(step / "w0000.h5");
  EXPECT_EQ(file.children("/w/master"), (std::vector<std::string>{"0,0", "0,8", "19,8", "5,0"}));
  EXPECT_EQ(file.get_text("/w", "shape"), "[24, 4, 4]");
  std::vector<int64_t> shape;
  EXPECT_EQ(file.read<float>("/w/master/19,8", &shape),
            values_in(values.of("w", TensorKind::kMaster), 16, {19, 24, 8, 16}));
  EXPECT_EQ(shape, (std::vector<int64_t>{5, 8}));
}

void flip(const fs::path& path, int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ 1);
  file.seekp(at);
  file.put(byte);
}

TEST(ColumnShards, AFlippedByteIsNamedByItsTileAndOtherColumnsStillRead) {
  TempDir dir;
  const SampleValues values({{"w", DType::kF32, {24, 16}}});
  const IndexedTensor& tensor = values.tensors()[0];
  const fs::path step = save_layout(dir.path(), values, kLayouts[2], 1);
  const int64_t offset = h5::File::open(step / "w0000.h5").dataset("/w/exp_avg/0,3").offset;
  flip(step / "w0000.h5", offset + (5 * 10 + 7) * 4);
  const CheckpointReader reader(step);
  const std::string name = "/w/exp_avg/0,3";
  for (const Rectangle& rectangle : Layout{{0, 24, 0, 16}, {5, 6, 10, 11}, {20, 24, 2, 5}}) {
    expect_error(ErrorCode::kCorrupted, {"w0000.h5", name},
                 [&] { read_rectangle(reader, tensor, TensorKind::kExpAvg, rectangle); });
  }
  for (const Rectangle& rectangle : Layout{{0, 24, 0, 3}, {0, 24, 13, 16}}) {
    EXPECT_EQ(read_rectangle(reader, tensor, TensorKind::kExpAvg, rectangle),
              values_in(values.of("w", TensorKind::kExpAvg), 16, rectangle));
  }
  expect_error(ErrorCode::kCorrupted, {"w0000.h5", name}, [&] { reader.verify(); });
  const Verification result = verify_checkpoint(step, 2);
  ASSERT_EQ(result.corruption.size(), 1u);
  EXPECT_EQ(result.corruption[0].location, "tile " + name);
}

TEST(ColumnShards, AValueThatIsNotFiniteIsNamedWithItsColumns) {
  TempDir dir;
  std::vector<float> data(12, 1.0f);
  data[7] = std::numeric_limits<float>::infinity();
  begin_checkpoint(dir.path(), 1, "u");
  CheckpointWriter writer(dir.path(), 1, "u", 0);
  writer.add(TensorKind::kMaster, shard_over({"w", DType::kF32, {8, 9}}, {2, 5, 4, 8}, data));
  expect_error(ErrorCode::kDiverged, {"rows 2 to 4, columns 4 to 7"}, [&] { writer.write(); });
}

TEST(ColumnShards, TheLayoutThatWroteIsNoDifference) {
  TempDir a, b;
  SampleValues values({{"w", DType::kF32, {24, 16}}, {"x", DType::kF32, {24, 2, 8}}});
  TensorSet rows(save_layout(a.path(), values, kLayouts[1]), ArtifactKind::kCheckpoint, nullptr);
  TensorSet columns(save_layout(b.path(), values, kLayouts[4]), ArtifactKind::kCheckpoint, nullptr);
  EXPECT_TRUE(diff_sets(rows, columns, /*distances=*/true, 2).equal());
}

TEST(ColumnShards, TrainedTensorsStreamWholeRowsFromColumnTiles) {
  TempDir dir;
  const SampleValues values({{"w", DType::kF32, {24, 16}}});
  const CheckpointReader reader(save_layout(dir.path(), values, kLayouts[4]));
  const TrainedTensor tensor{.name = "w", .shape = {24, 16}, .read = [&](const auto& slice) {
                               reader.read(TensorKind::kMaster, slice);
                             }};
  std::vector<std::byte> found;
  stream_converted(tensor, DType::kF32, [&](std::span<const std::byte> bytes) {
    found.insert(found.end(), bytes.begin(), bytes.end());
  });
  const std::vector<float>& expected = values.of("w", TensorKind::kMaster);
  ASSERT_EQ(found.size(), expected.size() * sizeof(float));
  EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size()), 0);
}

// ---- the index

TileIndex sample_index() {
  TileIndex index{{{"w", DType::kF32, {24, 16}}}, {}};
  Tile tile{.row_begin = 3, .row_count = 2, .col_begin = 4, .col_count = 5, .offset = 64};
  tile.digest = {1, 2};
  tile.block_crcs = {9};
  index.tiles = {tile};
  return index;
}

TEST(ColumnIndex, ColumnsComeBack) {
  const TileIndex index = decode_index(encode_index(sample_index()), 1000, "x.idx");
  const Tile& tile = index.tiles.at(0);
  EXPECT_EQ(std::tie(tile.row_begin, tile.row_count, tile.col_begin, tile.col_count, tile.offset),
            std::make_tuple(3, 2, 4, 5, 64));
  EXPECT_EQ(index.bytes_of(tile), 2 * 5 * 4);
}

TEST(ColumnIndex, ColumnsThatTheTensorDoesNotHaveAreE0345) {
  for (const auto& [begin, count] :
       std::vector<std::pair<int64_t, int64_t>>{{-1, 5},
                                                {12, 5},
                                                {0, 17},
                                                {3, 0},
                                                {3, -1},
                                                {17, 1},
                                                {int64_t{1} << 62, int64_t{1} << 62}}) {
    TileIndex index = sample_index();
    index.tiles[0].col_begin = begin;
    index.tiles[0].col_count = count;
    expect_error(ErrorCode::kBadTileIndex, {"x.idx", "columns that the tensor does not have"},
                 [&] { decode_index(encode_index(index), 1000, "x.idx"); });
  }
}

TEST(ColumnIndex, TheFirstVersionHasTilesOfWholeRows) {
  std::string bytes = "SUTORIDX";
  put(bytes, uint32_t{1});
  put(bytes, uint32_t{1});
  put(bytes, uint64_t{1});
  put(bytes, uint16_t{1});
  put(bytes, uint8_t{2});  // F32
  put(bytes, uint8_t{2});  // axes
  bytes += "w";
  for (const int64_t size : {24, 16}) put(bytes, size);
  put(bytes, uint32_t{0});
  put(bytes, uint32_t{1});  // exp_avg
  for (const int64_t number : {3, 2, 64}) put(bytes, number);
  for (const uint64_t half : {1, 2}) put(bytes, half);
  put(bytes, uint32_t{9});
  const TileIndex index = decode_index(bytes, 1000, "x.idx");
  const Tile& tile = index.tiles.at(0);
  EXPECT_EQ(std::tie(tile.row_begin, tile.row_count, tile.col_begin, tile.col_count, tile.offset),
            std::make_tuple(3, 2, 0, 16, 64));
  EXPECT_EQ(tile.kind, TensorKind::kExpAvg);
  EXPECT_EQ(dataset_path(index.tensors[0], tile), "/w/exp_avg/3");
  bytes[8] = 3;
  expect_error(ErrorCode::kBadTileIndex, {"version 3", "1 to 2"},
               [&] { decode_index(bytes, 1000, "x.idx"); });
}

}  // namespace
}  // namespace sutor
