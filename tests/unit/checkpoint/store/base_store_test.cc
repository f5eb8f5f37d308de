// Base stores give back every byte of the directory that they were made of, are the same however
// they are written, and read no more than they are asked for.
#include "checkpoint/store/base_store.h"

#include <gtest/gtest.h>

#include "checkpoint/export/merged_export.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/h5.h"
#include "tests/support/base_store_builder.h"
#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::bytes_of_name;
using testing::contents_below;
using testing::expect_error;
using testing::expert_name;
using testing::make_store;
using testing::OwnedTensor;
using testing::restore_store;
using testing::TempDir;

// Each dtype of the format, in shapes that are easily forgotten.
std::vector<SafetensorsDeclaration> odd_tensors() {
  std::vector<SafetensorsDeclaration> tensors;
  for (const char* dtype :
       {"F64",         "F32",         "F16", "BF16",    "I64",     "I32",     "I16",     "I8",
        "U64",         "U32",         "U16", "U8",      "BOOL",    "F8_E4M3", "F8_E5M2", "F8_E8M0",
        "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64", "F6_E2M3", "F6_E3M2", "F4"}) {
    tensors.push_back({std::string("matrix.") + dtype, dtype, {4, 6}});
    tensors.push_back({std::string("empty.") + dtype, dtype, {3, 0, 2}});
  }
  tensors.push_back({"scalar", "F32", {}});
  tensors.push_back({"scalar.bf16", "BF16", {}});
  tensors.push_back({"nothing", "F32", {0}});
  tensors.push_back({"vector", "I8", {7}});
  tensors.push_back({"ones", "F16", {1, 1, 1, 1, 1, 1, 1, 1, 1, 2}});
  tensors.push_back({"many.axes", "F32", std::vector<int64_t>(40, 1)});
  for (const char* name : {"", ".", "..", "a/b", "a", "a%2Fb", "with space", "\u00e4\u6f22",
                           "model.layers.0", "model.layers.0.weight"}) {
    tensors.push_back({name, "F32", {2, 2}});
  }
  tensors.push_back({std::string("zero\0byte", 9), "F32", {2}});
  return tensors;
}

class BaseStoreTest : public ::testing::Test {
 protected:
  // A model directory of one file with the odd tensors, and odd files.
  fs::path odd_directory() {
    const fs::path path =
        dir_.write("odd/config.json", "{\"model_type\": \"odd\"}\n").parent_path();
    testing::write_bytes(path / "model.safetensors", odd_tensors());
    dir_.write("odd/tokenizer.json", "{}");
    dir_.write("odd/empty", "");
    dir_.write("odd/MANIFEST.json", "of the model's authors");
    dir_.write("odd/a/b.txt", "in a folder");
    dir_.write("odd/a.txt", "sorts before the folder by one rule and after it by another");
    dir_.write("odd/headers/content/\u00e4 name", "x");
    dir_.write("odd/pytorch_model.bin", std::string(3'000'000, 'p'));
    dir_.write("odd/.git/HEAD", "not a part of the model");
    fs::create_symlink("../odd/a.txt", path / "link.txt");
    return path;
  }

  void expect_round_trip(const fs::path& path, const testing::StoreOptions& options = {}) {
    const std::string tag = std::to_string(++trips_);
    make_store(path, dir_ / ("store" + tag), options);
    const BaseStore store(dir_ / ("store" + tag));
    store.verify();
    restore_store(store.path(), dir_ / ("back" + tag));
    const auto expected = contents_below(path), found = contents_below(dir_ / ("back" + tag));
    EXPECT_EQ(found.size(), expected.size());
    for (const auto& [name, bytes] : expected) {
      ASSERT_TRUE(found.contains(name)) << name;
      EXPECT_TRUE(found.at(name) == bytes) << name;
    }
    const HfDirectory directory(path);
    EXPECT_EQ(store.digest(), directory.digest());
    EXPECT_EQ(store.quick_digest(), directory.quick_digest());
    EXPECT_EQ(store.tensor_digests(), directory.tensor_digests());
  }

  TempDir dir_;
  TensorMap map_ = testing::small_model();
  int trips_ = 0;
};

TEST_F(BaseStoreTest, EveryFormOfADirectoryComesBackByteForByte) {
  expect_round_trip(
      testing::write_single(dir_, "a", testing::stored_per_expert(map_, DType::kF32)));
  expect_round_trip(testing::write_single(dir_, "b", testing::stored_fused(map_, DType::kBF16)));
  const auto stored = testing::stored_per_expert(map_, DType::kF16);
  expect_round_trip(testing::write_sharded(dir_, "c", stored, 4));
  expect_round_trip(odd_directory());
}

TEST_F(BaseStoreTest, HeadersThatNoLibraryWritesComeBack) {
  // Keys out of order, spaces, escapes, metadata: legal, and different from what would be rebuilt.
  const std::string header =
      R"( { "b" : {"shape":[2],"data_offsets":[4,6],"dtype":"U8"},"__metadata__":{"z":"1","a":""},)"
      R"("\u0061":{"dtype":"F32","data_offsets":[0,4],"shape":[]}}   )";
  std::string file(8, '\0');
  const std::string text = header.substr(1);  // a header begins with its brace
  file[0] = static_cast<char>(text.size());
  file += text + bytes_of_name("data", 6);
  dir_.write("m/config.json", "{}");
  dir_.write("m/model.safetensors", file);
  expect_round_trip(dir_ / "m");
}

TEST_F(BaseStoreTest, AModelWithoutTensorsComesBack) {
  dir_.write("m/config.json", "{}");
  testing::write_bytes(dir_ / "m/model.safetensors", {});
  expect_round_trip(dir_ / "m");
  EXPECT_TRUE(BaseStore(dir_ / "store1").manifest().data_files.empty());
}

TEST_F(BaseStoreTest, ATensorOfManyTilesAndFilesComesBack) {
  dir_.write("m/config.json", "{}");
  testing::write_bytes(dir_ / "m/model.safetensors", {{"first", "F32", {100}},
                                                      {"large", "BF16", {30'000, 50}},
                                                      {"wide", "U8", {1, 300'000}},
                                                      {"tall", "I64", {40'000}},
                                                      {"last", "F32", {3, 3}}});
  expect_round_trip(dir_ / "m", {.max_file_bytes = 256 << 10});
  const BaseStore store(dir_ / "store1");
  ASSERT_GT(store.manifest().data_files.size(), 10u);
  for (const StoreDataFile& file : store.manifest().data_files) {
    // One holds nothing but the row that is larger.
    EXPECT_TRUE(file.bytes <= 256 << 10 || (file.bytes > 300'000 && file.bytes < 320'000));
  }
  expect_round_trip(dir_ / "m", {.max_file_bytes = 20 << 20});
}

TEST_F(BaseStoreTest, DataFilesAreAboutEquallyFull) {
  dir_.write("m/config.json", "{}");
  std::vector<SafetensorsDeclaration> tensors;
  for (int i = 0; i < 90; ++i) tensors.push_back({"t" + std::to_string(i), "U8", {100'000}});
  testing::write_bytes(dir_ / "m/model.safetensors", tensors);
  const HfDirectory directory(dir_ / "m");
  for (const int64_t limit : {1'000'000, 2'000'000, 8'500'000, 9'000'000, 20'000'000}) {
    const StorePlan plan = plan_store(directory, limit);
    const auto least = (plan.total_bytes() + limit - 1) / limit;
    EXPECT_LE(plan.files.size(), static_cast<size_t>(least) + 1) << limit;
    for (const StoreFilePlan& file : plan.files) {
      EXPECT_LE(file.bytes, limit);
      EXPECT_GT(file.bytes * 2 * static_cast<int64_t>(plan.files.size()), plan.total_bytes());
    }
  }
}

TEST_F(BaseStoreTest, BytesDoNotDependOnThreadsOrPlaces) {
  const fs::path path = odd_directory();
  make_store(path, dir_ / "one", {.max_file_bytes = 64 << 10, .threads = 1});
  make_store(path, dir_ / "elsewhere/two", {.max_file_bytes = 64 << 10, .threads = 4});
  EXPECT_TRUE(contents_below(dir_ / "one") == contents_below(dir_ / "elsewhere/two"));
}

TEST_F(BaseStoreTest, DatasetsHoldTheTensorsInTheirShapes) {
  make_store(odd_directory(), dir_ / "store");
  const h5::File file = h5::File::open(dir_ / "store/b00000.h5");
  EXPECT_EQ(file.children("/").size(), odd_tensors().size());
  for (const auto& [name, type, shape] :
       std::vector<std::tuple<std::string, std::string, std::vector<int64_t>>>{
           {"matrix.BF16", "BF16", {4, 6}},
           {"matrix.F8_E4M3", "F8_E4M3", {4, 6}},
           {"matrix.U64", "U64", {4, 6}},
           {"matrix.C64", "C64", {192}},  // as bytes
           {"matrix.F4", "F4", {12}},
           {"empty.F32", "F32", {3, 0, 2}},
           {"scalar", "F32", {}},
           {"a%2Fb", "F32", {2, 2}},
           {"a%252Fb", "F32", {2, 2}},
           {"%", "F32", {2, 2}}}) {
    const h5::Dataset dataset = file.dataset("/" + name + "/0");
    EXPECT_EQ(dataset.type, type) << name;
    EXPECT_EQ(dataset.shape, shape) << name;
    std::string bytes(static_cast<size_t>(dataset.bytes), '\0');
    file.read(dataset, std::as_writable_bytes(std::span(bytes)));
    const std::string plain = name == "a%2Fb"     ? "a/b"
                              : name == "a%252Fb" ? "a%2Fb"
                              : name == "%"       ? ""
                                                  : name;
    EXPECT_TRUE(bytes == bytes_of_name(plain, dataset.bytes)) << name;
  }
  EXPECT_EQ(file.get_text("/matrix.C64", "dtype"), "C64");
  EXPECT_EQ(file.get_text("/matrix.C64", "shape"), "[4, 6]");
}

TEST_F(BaseStoreTest, WhatAStoreCannotHoldIsNamed) {
  dir_.write("m/config.json", "{}");
  testing::write_bytes(dir_ / "m/model.safetensors", {{std::string(20'000, 'n'), "F32", {1}}});
  expect_error(ErrorCode::kNotStorable, {"nnnn", "20000"},
               [&] { make_store(dir_ / "m", dir_ / "s"); });
  testing::write_bytes(dir_ / "m/x", {{"deep", "F32", std::vector<int64_t>(300, 1)}});
  fs::rename(dir_ / "m/x", dir_ / "m/model.safetensors");
  expect_error(ErrorCode::kNotStorable, {"deep", "300 axes"},
               [&] { make_store(dir_ / "m", dir_ / "s"); });
  testing::write_bytes(dir_ / "m/x", {{"fine", "F32", {1}}});
  fs::rename(dir_ / "m/x", dir_ / "m/model.safetensors");
  dir_.write("m/bad\xff", "");
  expect_error(ErrorCode::kNotStorable, {"no UTF-8"}, [&] { make_store(dir_ / "m", dir_ / "s"); });
}

// ---- reading

TEST_F(BaseStoreTest, ModelsAreOpenedInEitherForm) {
  const fs::path path = odd_directory();  // it has a MANIFEST.json of its own
  make_store(path, dir_ / "store");
  EXPECT_EQ(open_model(path)->kind(), "model directory");
  EXPECT_EQ(open_model(dir_ / "store")->kind(), "base store");
  EXPECT_EQ(open_model(dir_ / "store")->config(), open_model(path)->config());
  EXPECT_EQ(open_model(dir_ / "store")->other_files(), open_model(path)->other_files());
}

TEST_F(BaseStoreTest, TensorsLoadAsFromTheDirectory) {
  for (const bool fused : {false, true}) {
    const std::string tag = fused ? "fused" : "own";
    const fs::path path =
        testing::write_single(dir_, tag,
                              fused ? testing::stored_fused(map_, DType::kF32)
                                    : testing::stored_per_expert(map_, DType::kF32));
    make_store(path, dir_ / (tag + "-store"));
    const auto store = open_model(dir_ / (tag + "-store"));
    store->check(map_);
    EXPECT_TRUE(store->unexpected(map_).empty());
    for (const TensorEntry& entry : map_.entries()) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        OwnedTensor whole(entry, dtype);
        store->load(entry, whole.view);
        EXPECT_EQ(whole.bytes, testing::to_bytes(testing::values_of(map_, entry.name), dtype));
      }
      OwnedTensor rows(entry, DType::kF32, 1, 2);
      store->load(entry, rows.view);
      const auto expected = testing::values_of(map_, entry.name);
      const auto begin = expected.begin() + rows.view.row_elements();
      EXPECT_EQ(rows.values(), std::vector<float>(begin, begin + 2 * rows.view.row_elements()));
    }
  }
}

// Experts of sizes that no power of two divides, stacked.
struct Stacked {
  int64_t experts = 6, width = 3 * 88, hidden = 250;
  TensorEntry matrix_of(int64_t expert, bool up) const {
    TensorEntry entry;
    entry.name = "e" + std::to_string(expert) + (up ? "u" : "g");
    entry.shape = {width, hidden};
    entry.sources = {{.name = "gate_up",
                      .index = expert,
                      .row_begin = up ? width : 0,
                      .disk_shape = {experts, 2 * width, hidden}}};
    return entry;
  }
};

TEST_F(BaseStoreTest, AnExpertOfAStackIsReadAlone) {
  const Stacked stacked;
  dir_.write("m/config.json", "{}");
  testing::write_bytes(dir_ / "m/model.safetensors",
                       {{"gate_up", "BF16", {stacked.experts, 2 * stacked.width, stacked.hidden}}});
  make_store(dir_ / "m", dir_ / "store");
  const int64_t matrix = stacked.width * stacked.hidden * 2;
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const bool up : {false, true}) {
      const BaseStore store(dir_ / "store");
      EXPECT_EQ(store.fetched_bytes(), 0);
      const TensorEntry entry = stacked.matrix_of(3, up);
      OwnedTensor whole(entry, dtype);
      store.load(entry, whole.view);
      EXPECT_EQ(store.fetched_bytes(), matrix);
      // A byte of any other expert may be wrong: nobody looks at it.
      OwnedTensor again(entry, dtype);
      HfDirectory(dir_ / "m").load(entry, again.view);
      EXPECT_EQ(whole.bytes, again.bytes);
    }
  }
}

TEST_F(BaseStoreTest, WholeTensorsOfManyTilesAreFetchedOnce) {
  dir_.write("m/config.json", "{}");
  testing::write_bytes(dir_ / "m/model.safetensors", {{"w", "BF16", {9000, 1333}}});
  make_store(dir_ / "m", dir_ / "store");
  TensorEntry entry{.name = "w", .shape = {9000, 1333}};
  entry.sources = {{.name = "w"}};
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    const BaseStore store(dir_ / "store");
    OwnedTensor whole(entry, dtype);
    store.load(entry, whole.view);
    EXPECT_EQ(store.fetched_bytes(), 9000 * 1333 * 2);
  }
  const BaseStore store(dir_ / "store");
  OwnedTensor row(entry, DType::kBF16, 7000, 1);
  store.load(entry, row.view);
  EXPECT_LE(store.fetched_bytes(), 2 * kBlockBytes);
  const std::string bytes = bytes_of_name("w", 9000 * 1333 * 2);
  EXPECT_EQ(std::memcmp(row.bytes.data(), bytes.data() + 7000 * 2666, 2666), 0);
}

TEST_F(BaseStoreTest, ReadsThatMeetAtTileEndsFetchNothingTwice) {
  const int64_t rows = 9000, row_bytes = 1333 * 2;
  dir_.write("m/config.json", "{}");
  testing::write_bytes(dir_ / "m/model.safetensors", {{"w", "BF16", {rows, 1333}}});
  make_store(dir_ / "m", dir_ / "store");
  TensorEntry entry{.name = "w", .shape = {rows, 1333}};
  entry.sources = {{.name = "w"}};
  for (const char* path : {"m", "store"}) {
    const auto model = open_model(dir_ / path);
    const auto end_of = [&](int64_t row, int64_t bytes) {
      return model->read_end_row(entry, row, bytes);
    };
    EXPECT_EQ(end_of(0, rows * row_bytes), rows);
    EXPECT_EQ(end_of(8999, 1), rows);
    std::vector<int64_t> ends = {0};
    while (ends.back() < rows) {
      const int64_t next = end_of(ends.back(), kTileBytes);
      ASSERT_GT(next, ends.back());
      ASSERT_LE((next - ends.back()) * row_bytes, kTileBytes);
      OwnedTensor slice(entry, DType::kF32, ends.back(), next - ends.back());
      model->load(entry, slice.view);
      ends.push_back(next);
    }
    EXPECT_EQ(ends.size(), 3u);
    EXPECT_EQ(model->fetched_bytes(), rows * row_bytes);
  }
  // Within a tile there is no cut.
  EXPECT_EQ(open_model(dir_ / "m")->read_end_row(entry, 0, 10 * row_bytes), 10);
  EXPECT_EQ(open_model(dir_ / "store")->read_end_row(entry, 0, 10 * row_bytes), rows);
}

// ---- what is made of a store

TEST_F(BaseStoreTest, ExportsEqualThoseFromTheDirectory) {
  for (const bool fused : {false, true}) {
    const std::string tag = fused ? "fused" : "own";
    const auto stored = fused ? testing::stored_fused(map_, DType::kBF16)
                              : testing::stored_per_expert(map_, DType::kBF16);
    const fs::path path = testing::write_sharded(dir_, tag, stored, 3);
    dir_.write(tag + "/tokenizer.json", "{}");
    dir_.write(tag + "/sub/notes.txt", "x");
    dir_.write(tag + "/consolidated.safetensors", "weights in another form");
    make_store(path, dir_ / (tag + "-store"));
    std::vector<float> values = testing::values_of(map_, expert_name(1, "up"));
    for (float& value : values) value += 1;
    OwnedTensor trained(*map_.find(expert_name(1, "up")), DType::kF32, values);
    for (const bool any : {false, true}) {
      std::vector<TrainedTensor> tensors;
      if (any) tensors.push_back(trained_tensor(trained.view));
      std::map<std::string, std::string> files[2];
      int at = 0;
      for (const fs::path& base : {path, dir_ / (tag + "-store")}) {
        const auto model = open_model(base);
        const fs::path out = dir_ / (tag + "-out" + std::to_string(at) + (any ? "t" : ""));
        const auto changed = export_merged(*model, map_, tensors, out, {"digest", {}}).digests;
        const VerifyReport report = verify_merged(*model, map_, out, changed);
        EXPECT_EQ(report.changed, any ? 1 : 0);
        files[at++] = contents_below(out);
      }
      EXPECT_TRUE(files[0] == files[1]) << tag << any;
      if (!any) {
        EXPECT_TRUE(files[0] == contents_below(path));
      }
    }
  }
}

}  // namespace
}  // namespace sutor
