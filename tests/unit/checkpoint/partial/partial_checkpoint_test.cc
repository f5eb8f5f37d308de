// Partial checkpoints: every row comes back bit by bit at any split, nothing incomplete is
// published, and every damaged byte is noticed before it is used.
#include "checkpoint/partial/partial_checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <span>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/error.h"
#include "csrc/base/h5.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using testing::content_of;
using testing::sample_meta;
using testing::sample_tensors;
using testing::SampleValues;
using testing::save_sample;
using testing::TempDir;
using testing::write_shards;

std::string error_of(ErrorCode code, const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

void expect_error(ErrorCode code, const std::string& part, const std::function<void()>& function) {
  const std::string message = error_of(code, function);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

std::vector<float> read_rows(const CheckpointReader& reader, const IndexedTensor& tensor,
                             TensorKind kind, int64_t begin, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count * tensor.row_elements()));
  reader.read(kind, {.name = tensor.name,
                     .dtype = tensor.dtype,
                     .global_shape = tensor.shape,
                     .row_begin = begin,
                     .row_count = count,
                     .data = reinterpret_cast<std::byte*>(values.data())});
  return values;
}

// Compares bits: NaN equals itself and -0 differs from 0.
void expect_same(const std::vector<float>& found, const float* expected) {
  const auto ours = std::as_bytes(std::span(found));
  const auto theirs = std::as_bytes(std::span(expected, found.size()));
  EXPECT_TRUE(std::equal(ours.begin(), ours.end(), theirs.begin()));
}

void expect_all_rows(const CheckpointReader& reader, const SampleValues& values) {
  for (const IndexedTensor& tensor : values.tensors()) {
    for (const TensorKind kind : kAllKinds) {
      expect_same(read_rows(reader, tensor, kind, 0, tensor.rows()),
                  values.of(tensor.name, kind).data());
    }
  }
}

TEST(PartialCheckpointTest, EverySplitOfWritersReadsBackAtEverySplitOfReaders) {
  SampleValues values(sample_tensors());
  for (const int writers : {1, 2, 3, 5}) {
    TempDir dir;
    const CheckpointReader reader(save_sample(dir.path(), 10, values, writers));
    expect_all_rows(reader, values);
    for (const IndexedTensor& tensor : values.tensors()) {
      for (int64_t begin = 0; begin < tensor.rows(); begin += 3) {
        for (int64_t count = 0; begin + count <= tensor.rows(); count += 5) {
          expect_same(
              read_rows(reader, tensor, TensorKind::kExpAvg, begin, count),
              values.of(tensor.name, TensorKind::kExpAvg).data() + begin * tensor.row_elements());
        }
      }
    }
    reader.verify();
  }
}

TEST(PartialCheckpointTest, ATensorOfSeveralTilesAndBlocksReadsAtAnyRows) {
  TempDir dir;
  // 17.6 MB a kind: two tiles; a row of 4.4 kB does not divide a block of 1 MiB.
  const IndexedTensor tensor{"w", DType::kF32, {4000, 1100}};
  SampleValues values({tensor});
  const CheckpointReader reader(save_sample(dir.path(), 1, values, 1));
  EXPECT_EQ(reader.manifest().files.at(0).tiles, 6);
  const float* expected = values.of("w", TensorKind::kMaster).data();
  for (const auto& [begin, count] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 4000}, {0, 1}, {3999, 1}, {3810, 8}, {200, 700}, {238, 239}}) {
    expect_same(read_rows(reader, tensor, TensorKind::kMaster, begin, count),
                expected + begin * 1100);
  }
}

TEST(PartialCheckpointTest, MetaAndStateComeBack) {
  TempDir dir;
  SampleValues values(sample_tensors());
  const CheckpointReader reader(save_sample(dir.path(), 120, values));
  const CheckpointMeta expected = sample_meta(120);
  EXPECT_EQ(reader.path().filename(), "step-00000120");
  EXPECT_EQ(reader.meta().step, 120);
  EXPECT_EQ(reader.meta().base_digest, expected.base_digest);
  EXPECT_EQ(reader.meta().plan_digest, expected.plan_digest);
  EXPECT_EQ(reader.meta().expert_config, expected.expert_config);
  EXPECT_EQ(reader.meta().layout, expected.layout);
  EXPECT_EQ(reader.meta().state, expected.state);
  EXPECT_EQ(reader.meta().provenance, expected.provenance);
  EXPECT_EQ(reader.manifest().parameters, 24 * 16 + 16 * 24 + 16);
  EXPECT_EQ(reader.tensors().size(), 3u);
  EXPECT_EQ(content_of(dir / "LATEST"), "step-00000120\n");
}

TEST(PartialCheckpointTest, HalfPrecisionKeepsNanPayloadsAndSignedZeros) {
  TempDir dir;
  std::vector<uint16_t> bits = {0x7fc1, 0x8000, 0xff81, 0x0001};
  const IndexedTensor tensor{"w", DType::kBF16, {4}};
  const ShardedTensor rows{.name = "w",
                           .dtype = DType::kBF16,
                           .global_shape = {4},
                           .row_count = 4,
                           .data = reinterpret_cast<std::byte*>(bits.data())};
  begin_checkpoint(dir.path(), 1, "u");
  CheckpointWriter writer(dir.path(), 1, "u", 0);
  for (const TensorKind kind : kAllKinds) writer.add(kind, rows);
  const std::string record = writer.write();
  const CheckpointReader reader(
      publish_checkpoint(dir.path(), 1, "u", {record}, sample_meta(1), {tensor}));
  std::vector<uint16_t> back(4);
  ShardedTensor into = rows;
  into.data = reinterpret_cast<std::byte*>(back.data());
  reader.read(TensorKind::kExpAvg, into);
  EXPECT_EQ(back, bits);
}

TEST(PartialCheckpointTest, TheFileIsBrowsableByNames) {
  TempDir dir;
  SampleValues values(sample_tensors());
  const fs::path step = save_sample(dir.path(), 1, values, 1);
  const h5::File file = h5::File::open(step / "w0000.h5");
  const std::string name = "/model.layers.1.mlp.experts.7.gate_proj.weight";
  EXPECT_EQ(file.children(name), (std::vector<std::string>{"exp_avg", "exp_avg_sq", "master"}));
  EXPECT_EQ(file.get_text(name, "shape"), "[24, 16]");
  std::vector<int64_t> shape;
  EXPECT_EQ(file.read<float>(name + "/master/0", &shape),
            values.of(name.substr(1), TensorKind::kMaster));
  EXPECT_EQ(shape, (std::vector<int64_t>{24, 16}));
}

TEST(PartialCheckpointTest, EqualContentGivesEqualBytes) {
  SampleValues values(sample_tensors());
  TempDir one, two;
  const fs::path a = save_sample(one.path(), 5, values);
  const fs::path b = save_sample(two.path(), 5, values);
  for (const char* name : {"w0000.h5", "w0000.idx", "w0001.h5", "state.h5", "MANIFEST.json"}) {
    EXPECT_EQ(content_of(a / name), content_of(b / name)) << name;
  }
}

TEST(PartialCheckpointTest, AWriterWithoutRowsWritesNoFileAndTakesPart) {
  TempDir dir;
  SampleValues values({{"w", DType::kF32, {1, 8}}});
  const CheckpointReader reader(save_sample(dir.path(), 1, values, 4));
  expect_all_rows(reader, values);
  EXPECT_EQ(reader.manifest().files.size(), 1u);
}

TEST(PartialCheckpointTest, BytesStayWithinTheirGoal) {
  for (const auto& [tensors, rows, columns] : std::vector<std::tuple<int, int64_t, int64_t>>{
           {96, 32, 128}, {6, 1408, 1024}, {3, 300, 64}}) {
    TempDir dir;
    std::vector<IndexedTensor> list;
    for (int i = 0; i < tensors; ++i) {
      list.push_back({fmt::format("model.layers.12.mlp.experts.{}.down_proj.weight", i),
                      DType::kF32,
                      {rows, columns}});
    }
    SampleValues values(list);
    const CheckpointReader reader(save_sample(dir.path(), 1, values, 2));
    int64_t tiles = 0;
    for (const FileRecord& file : reader.manifest().files) tiles += file.tiles;
    int64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(reader.path())) bytes += entry.file_size();
    const double payload = 12.0 * static_cast<double>(tensors * rows * columns);
    EXPECT_LE(static_cast<double>(bytes), 1.02 * payload + 1024.0 * tiles + (1 << 20));
    EXPECT_LE(bytes, payload + payload / 50 + 1024 * tiles + 65536) << "without the flat megabyte";
    EXPECT_LE(bytes, estimate_checkpoint_bytes(list) + 1024 * tiles);
  }
}

TEST(PartialCheckpointTest, NothingIsVisibleBeforePublishingAndDiscardLeavesNothing) {
  TempDir dir;
  SampleValues values(sample_tensors());
  begin_checkpoint(dir.path(), 3, "u");
  write_shards(dir.path(), 3, "u", values, 2);
  EXPECT_FALSE(fs::exists(dir / "step-00000003"));
  EXPECT_EQ(fs::status(dir / ".staging-00000003.u").permissions(), fs::perms::owner_all);
  discard_checkpoint(dir.path(), 3, "u");
  EXPECT_TRUE(fs::is_empty(dir.path()));
  discard_checkpoint(dir.path(), 3, "u");
}

TEST(PartialCheckpointTest, AStagingDirectoryIsNeverUsedTwice) {
  TempDir dir;
  begin_checkpoint(dir.path(), 3, "u");
  expect_error(ErrorCode::kOutputExists, ".staging-00000003.u",
               [&] { begin_checkpoint(dir.path(), 3, "u"); });
}

TEST(PartialCheckpointTest, MissingDoubleUnwantedAndMisshapenTensorsAreNotPublished) {
  TempDir dir;
  SampleValues values(sample_tensors());
  begin_checkpoint(dir.path(), 3, "u");
  const auto records = write_shards(dir.path(), 3, "u", values, 2);
  const auto publish = [&](const std::vector<std::string>& with,
                           const std::vector<IndexedTensor>& wanted) {
    return [&dir, with, wanted] {
      publish_checkpoint(dir.path(), 3, "u", with, sample_meta(3), wanted);
    };
  };
  const auto wanted = values.tensors();
  expect_error(ErrorCode::kBadCoverage, "rows 0 to 11 of", publish({records[1], "null"}, wanted));
  expect_error(ErrorCode::kBadCoverage, "rows 12 to 23 of", publish({records[0]}, wanted));
  expect_error(ErrorCode::kBadCoverage, "more than once",
               publish({records[0], records[1], records[1]}, wanted));
  auto more = wanted;
  more.push_back({"model.other", DType::kF32, {2, 2}});
  expect_error(ErrorCode::kBadCoverage, "model.other", publish(records, more));
  auto fewer = wanted;
  fewer.pop_back();
  expect_error(ErrorCode::kBadCoverage, "model.norm.weight was written but",
               publish(records, fewer));
  auto other = wanted;
  other[0].shape = {16, 24};
  expect_error(ErrorCode::kBadCoverage, "[16, 24]", publish(records, other));
  EXPECT_FALSE(fs::exists(dir / "step-00000003"));
  publish(records, wanted)();
  EXPECT_TRUE(fs::exists(dir / "step-00000003"));
}

TEST(PartialCheckpointTest, AnAbsentKindIsNotPublished) {
  TempDir dir;
  SampleValues values({{"w", DType::kF32, {2, 8}}});
  begin_checkpoint(dir.path(), 1, "u");
  CheckpointWriter writer(dir.path(), 1, "u", 0);
  writer.add(TensorKind::kMaster, values.rows(values.tensors()[0], TensorKind::kMaster, 0, 2));
  const std::string record = writer.write();
  expect_error(ErrorCode::kBadCoverage, "exp_avg", [&] {
    publish_checkpoint(dir.path(), 1, "u", {record}, sample_meta(1), values.tensors());
  });
}

TEST(PartialCheckpointTest, ValuesThatAreNotFiniteAreNotSaved) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    TempDir dir;
    std::vector<float> data(12, 1.0f);
    data[7] = bad;
    begin_checkpoint(dir.path(), 1, "u");
    CheckpointWriter writer(dir.path(), 1, "u", 0);
    writer.add(TensorKind::kExpAvgSq, {.name = "w",
                                       .dtype = DType::kF32,
                                       .global_shape = {3, 4},
                                       .row_count = 3,
                                       .data = reinterpret_cast<std::byte*>(data.data())});
    expect_error(ErrorCode::kDiverged, "exp_avg_sq of w", [&] { writer.write(); });
  }
}

TEST(PartialCheckpointTest, ACompleteCheckpointIsNotReplacedButABrokenOneIs) {
  TempDir dir;
  SampleValues first(sample_tensors()), second(sample_tensors(), 2);
  save_sample(dir.path(), 3, first);
  expect_error(ErrorCode::kOutputExists, "step-00000003",
               [&] { save_sample(dir.path(), 3, second); });
  expect_all_rows(CheckpointReader(dir / "step-00000003"), first);
  discard_checkpoint(dir.path(), 3, "test");
  fs::remove(dir / "step-00000003/w0001.h5");
  save_sample(dir.path(), 3, second);
  expect_all_rows(CheckpointReader(dir / "step-00000003"), second);
}

TEST(PartialCheckpointTest, AskingForOtherTensorsShapesOrTypesIsAnError) {
  TempDir dir;
  SampleValues values({{"w", DType::kF32, {2, 8}}});
  const CheckpointReader reader(save_sample(dir.path(), 1, values));
  std::vector<std::byte> room(1024);
  const auto read = [&](const std::string& name, DType dtype, std::vector<int64_t> shape) {
    return [&, name, dtype, shape] {
      reader.read(TensorKind::kMaster, {.name = name,
                                        .dtype = dtype,
                                        .global_shape = shape,
                                        .row_count = 1,
                                        .data = room.data()});
    };
  };
  expect_error(ErrorCode::kNotInCheckpoint, "does not hold v", read("v", DType::kF32, {2, 8}));
  expect_error(ErrorCode::kNotInCheckpoint, "[2, 8]", read("w", DType::kF32, {8, 2}));
  expect_error(ErrorCode::kNotInCheckpoint, "BF16", read("w", DType::kBF16, {2, 8}));
}

// ---- damage

void flip(const fs::path& path, size_t at, char mask) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const char byte = static_cast<char>(file.get() ^ mask);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

void read_everything(const fs::path& step) {
  CheckpointReader reader(step);
  reader.verify();
}

TEST(PartialCheckpointTest, EveryFlippedByteOfEveryFileIsNoticed) {
  TempDir dir;
  SampleValues values(sample_tensors());
  const fs::path step = save_sample(dir.path(), 3, values);
  for (const auto& entry : fs::directory_iterator(step)) {
    const size_t size = entry.file_size();
    const size_t stride = entry.path().extension() == ".h5" ? 41 : 1;  // keeps the test short
    for (size_t at = 0; at < size; at += stride) {
      const char mask = static_cast<char>(1 << (at % 8));
      flip(entry.path(), at, mask);
      EXPECT_THROW(read_everything(step), Error) << entry.path() << " at " << at;
      flip(entry.path(), at, mask);
    }
  }
  read_everything(step);
}

TEST(PartialCheckpointTest, ReadingCorruptRowsNamesFileAndTile) {
  TempDir dir;
  SampleValues values(sample_tensors());
  const fs::path step = save_sample(dir.path(), 3, values, 1);
  const std::string name = "model.layers.1.mlp.experts.7.gate_proj.weight";
  const int64_t offset =
      h5::File::open(step / "w0000.h5").dataset("/" + name + "/exp_avg/0").offset;
  flip(step / "w0000.h5", static_cast<size_t>(offset) + 64 * 3, 1);
  const CheckpointReader reader(step);
  const IndexedTensor tensor = sample_tensors()[0];
  read_rows(reader, tensor, TensorKind::kMaster, 0, 24);
  const std::string message = error_of(
      ErrorCode::kCorrupted, [&] { read_rows(reader, tensor, TensorKind::kExpAvg, 3, 1); });
  EXPECT_NE(message.find("w0000.h5"), std::string::npos) << message;
  EXPECT_NE(message.find(name + "/exp_avg/0"), std::string::npos) << message;
}

TEST(PartialCheckpointTest, TruncatedMissingAndSwappedFilesAreNamed) {
  TempDir dir;
  SampleValues values(sample_tensors());
  const fs::path step = save_sample(dir.path(), 3, values);
  for (const char* name : {"w0000.h5", "w0000.idx", "state.h5", "MANIFEST.json"}) {
    const std::string good = content_of(step / name);
    for (const size_t size : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1}) {
      fs::resize_file(step / name, size);
      const std::string message =
          error_of(std::string(name) == "MANIFEST.json" ? ErrorCode::kBadManifest
                                                        : ErrorCode::kWrongFileSize,
                   [&] { CheckpointReader reader(step); });
      EXPECT_NE(message.find(name), std::string::npos) << message;
    }
    fs::remove(step / name);
    EXPECT_THROW(CheckpointReader reader(step), Error);
    std::ofstream(step / name, std::ios::binary) << good;
  }
  read_everything(step);
  fs::rename(step / "w0000.h5", step / "x");
  fs::rename(step / "w0001.h5", step / "w0000.h5");
  fs::rename(step / "x", step / "w0001.h5");
  EXPECT_THROW(read_everything(step), Error);
}

TEST(PartialCheckpointTest, AnUnknownManifestVersionIsNamed) {
  TempDir dir;
  SampleValues values(sample_tensors());
  const fs::path step = save_sample(dir.path(), 3, values);
  std::string text = content_of(step / "MANIFEST.json");
  text = text.substr(text.find('\n') + 1);
  text.replace(text.find("\"format_version\": 1"), 19, "\"format_version\": 9");
  std::ofstream(step / "MANIFEST.json") << "{\"digest\": \"" << xxh3(text).text() << "\",\n"
                                        << text;
  expect_error(ErrorCode::kUnknownVersion, "version 9", [&] { CheckpointReader reader(step); });
}

}  // namespace
}  // namespace sutor
