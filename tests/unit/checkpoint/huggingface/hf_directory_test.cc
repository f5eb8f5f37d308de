// Model directories: all forms on disk give the same tensors; messages name what does not fit.
#include "checkpoint/huggingface/hf_directory.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::expect_error;
using testing::expert_name;
using testing::OwnedTensor;
using testing::StoredValues;
using testing::TempDir;

void expect_all_tensors(const HfDirectory& directory, const TensorMap& map) {
  directory.check(map);
  EXPECT_TRUE(directory.unexpected(map).empty());
  for (const TensorEntry& entry : map.entries()) {
    OwnedTensor whole(entry, DType::kF32);
    directory.load(entry, whole.view);
    const std::vector<float> expected = testing::values_of(map, entry.name);
    EXPECT_EQ(whole.values(), expected) << entry.name;
    OwnedTensor rows(entry, DType::kF32, 1, 2);
    directory.load(entry, rows.view);
    const int64_t row = rows.view.row_elements();
    const std::vector<float> middle(expected.begin() + row, expected.begin() + 3 * row);
    EXPECT_EQ(rows.values(), middle) << entry.name;
  }
}

TEST(HfDirectory, EveryFormOnDiskGivesTheSameTensors) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  for (const DType dtype : {DType::kF32, DType::kF16}) {  // the values are not exact in bf16
    const std::string tag(name_of(dtype));
    const auto per_expert = testing::stored_per_expert(map, dtype);
    const auto fused = testing::stored_fused(map, dtype);
    expect_all_tensors(HfDirectory(testing::write_single(dir, tag + "a", per_expert)), map);
    expect_all_tensors(HfDirectory(testing::write_single(dir, tag + "b", fused)), map);
    expect_all_tensors(HfDirectory(testing::write_sharded(dir, tag + "c", per_expert, 4)), map);
    expect_all_tensors(HfDirectory(testing::write_sharded(dir, tag + "d", fused, 3)), map);
  }
}

TEST(HfDirectory, LoadsIntoTheDestinationsDtype) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  const HfDirectory directory(
      testing::write_single(dir, "m", testing::stored_per_expert(map, DType::kF32)));
  const TensorEntry& entry = map.entries()[0];
  OwnedTensor loaded(entry, DType::kBF16);
  directory.load(entry, loaded.view);
  EXPECT_EQ(loaded.bytes, testing::to_bytes(testing::values_of(map, entry.name), DType::kBF16));
}

TEST(HfDirectory, AMissingOrBrokenConfigIsE0300) {
  TempDir dir;
  expect_error(ErrorCode::kNoModel, {"does not exist"}, [&] { HfDirectory(dir / "nothing"); });
  expect_error(ErrorCode::kNoModel, {"no config.json"}, [&] { HfDirectory(dir.path()); });
  dir.write("config.json", "{");
  expect_error(ErrorCode::kNoModel, {"config.json", "not a JSON object"},
               [&] { HfDirectory(dir.path()); });
  dir.write("config.json", "{}");
  expect_error(ErrorCode::kUnreadableFile, {"neither model.safetensors"},
               [&] { HfDirectory(dir.path()); });
  dir.write("pytorch_model.bin", "");
  expect_error(ErrorCode::kUnreadableFile, {"pytorch_model.bin"}, [&] { HfDirectory(dir.path()); });
}

TEST(HfDirectory, MissingTensorsAreCountedAndNamed) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  auto stored = testing::stored_per_expert(map, DType::kF32);
  stored.erase(stored.begin() + 3);
  const HfDirectory one(testing::write_single(dir, "one", stored));
  expect_error(ErrorCode::kMissingTensor, {"1 of 8 tensors", map.entries()[3].name},
               [&] { one.check(map); });
  EXPECT_FALSE(one.resolve(map.entries()[3]));
  OwnedTensor into(map.entries()[3], DType::kF32);
  expect_error(ErrorCode::kMissingTensor, {map.entries()[3].name},
               [&] { one.load(map.entries()[3], into.view); });
  stored.resize(1);
  const HfDirectory many(testing::write_single(dir, "many", stored));
  expect_error(ErrorCode::kMissingTensor, {"7 of 8 tensors", "and 2 more"},
               [&] { many.check(map); });
}

TEST(HfDirectory, AWrongShapeNamesBothShapesAndTheFile) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  auto stored = testing::stored_per_expert(map, DType::kF32);
  stored[2].shape = {testing::kHidden, testing::kWidth};  // transposed
  const HfDirectory directory(testing::write_single(dir, "m", stored));
  expect_error(ErrorCode::kWrongShape, {"model.safetensors", stored[2].name, "[4, 3]", "[3, 4]"},
               [&] { directory.check(map); });
  auto fused = testing::stored_fused(map, DType::kF32);
  fused[2].shape = {1, 4 * testing::kWidth, testing::kHidden};
  const HfDirectory other(testing::write_single(dir, "f", fused));
  expect_error(ErrorCode::kWrongShape, {"gate_up_proj", "[1, 12, 4]", "[2, 6, 4]"},
               [&] { other.check(map); });
}

TEST(HfDirectory, DtypesThatCannotBeComputedWithAreRefusedOnlyWhenNeeded) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  dir.write("m/config.json", "{}");
  std::vector<SafetensorsDeclaration> declared;
  for (const TensorEntry& entry : map.entries())
    declared.push_back({entry.name, "F32", entry.shape});
  declared[2].dtype_name = "F8_E4M3";
  int64_t bytes = 0;
  for (const auto& tensor : declared) bytes += tensor.num_bytes();
  SafetensorsWriter writer(dir / "m/model.safetensors", declared);
  writer.append(std::vector<std::byte>(static_cast<size_t>(bytes)));
  writer.finish();
  const HfDirectory directory(dir / "m");
  expect_error(ErrorCode::kBadStoredDType, {declared[2].name, "F8_E4M3"},
               [&] { directory.check(map); });
  EXPECT_EQ(directory.find(declared[2].name)->entry->dtype_name, "F8_E4M3");
}

TEST(HfDirectory, UnexpectedTensorsAreListed) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  auto stored = testing::stored_per_expert(map, DType::kF32);
  stored.push_back({"model.mtp.weight", {2}, {1, 2}});
  stored.push_back({"a.first", {1}, {1}});
  const HfDirectory directory(testing::write_single(dir, "m", stored));
  directory.check(map);
  EXPECT_EQ(directory.unexpected(map), (std::vector<std::string>{"a.first", "model.mtp.weight"}));
}

class IndexFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    stored_ = testing::stored_per_expert(map_, DType::kF32);
    path_ = testing::write_sharded(dir_, "m", stored_, 4);
    index_ = nlohmann::json::parse(dir_.read(path_ / kIndexFile));
  }
  void expect_refused(const std::vector<std::string>& words) {
    dir_.write(std::string("m/") + kIndexFile, index_.dump());
    expect_error(ErrorCode::kContradictoryShards, words, [&] { HfDirectory directory(path_); });
  }

  TempDir dir_;
  TensorMap map_ = testing::small_model();
  std::vector<StoredValues> stored_;
  fs::path path_;
  nlohmann::json index_;
};

TEST_F(IndexFaults, AMissingShardIsNamed) {
  fs::remove(path_ / "model-00002-of-00002.safetensors");
  expect_refused({"model-00002-of-00002.safetensors", "missing"});
}

TEST_F(IndexFaults, ATensorThatItsShardDoesNotHoldIsNamed) {
  index_["weight_map"]["model.ghost"] = "model-00001-of-00002.safetensors";
  expect_refused({"model.ghost", "does not"});
  index_["weight_map"].erase("model.ghost");
  index_["weight_map"][stored_[0].name] = "model-00002-of-00002.safetensors";
  expect_refused({stored_[0].name, "model-00001-of-00002.safetensors does"});
}

TEST_F(IndexFaults, ATensorThatTheIndexLacksIsNamed) {
  index_["weight_map"].erase(stored_[5].name);
  expect_refused({stored_[5].name, "does not list"});
}

TEST_F(IndexFaults, ATensorInTwoShardsIsNamed) {
  testing::write_safetensors(path_ / "third.safetensors", {stored_[0]});
  index_["weight_map"]["x"] = "third.safetensors";
  expect_refused({stored_[0].name, "two shards"});
}

TEST_F(IndexFaults, ATensorNamedTwiceIsNamed) {
  std::string text = index_.dump();
  const std::string again = "{\"" + stored_[0].name + "\":\"model-00001-of-00002.safetensors\",";
  const size_t at = text.find("\"weight_map\":{") + std::string("\"weight_map\":").size();
  dir_.write(std::string("m/") + kIndexFile, text.substr(0, at) + again + text.substr(at + 1));
  expect_error(ErrorCode::kContradictoryShards, {stored_[0].name, "twice"},
               [&] { HfDirectory directory(path_); });
}

TEST_F(IndexFaults, AWrongTotalSizeIsAWarningThatNamesBoth) {
  const auto warning = [&](const nlohmann::json& total) {
    if (total.is_null()) {
      index_["metadata"].erase("total_size");
    } else {
      index_["metadata"]["total_size"] = total;
    }
    dir_.write(std::string("m/") + kIndexFile, index_.dump());
    return HfDirectory(path_).index_warning();
  };
  EXPECT_EQ(warning(index_["metadata"]["total_size"]), "");
  const std::string right = index_["metadata"]["total_size"].dump();
  for (const nlohmann::json& total :
       {nlohmann::json(17), nlohmann::json(0), nlohmann::json(-1), nlohmann::json(1e300),
        nlohmann::json("many"), nlohmann::json(right), nlohmann::json::array({1})}) {
    const std::string said = warning(total);
    EXPECT_NE(said.find(total.dump()), std::string::npos) << said;
    EXPECT_NE(said.find(right + " bytes"), std::string::npos) << said;
  }
  EXPECT_EQ(warning(nullptr), "");
  index_["metadata"] = "none";
  dir_.write(std::string("m/") + kIndexFile, index_.dump());
  EXPECT_EQ(HfDirectory(path_).index_warning(), "");
}

TEST_F(IndexFaults, FilesOutsideOfTheDirectoryAreRefused) {
  for (const char* file : {"../x.safetensors", "/etc/hostname", "sub/x.safetensors", "", ".."}) {
    index_["weight_map"][stored_[0].name] = file;
    expect_refused({stored_[0].name, "same directory"});
  }
  index_["weight_map"][stored_[0].name] = 3;
  expect_refused({stored_[0].name});
}

TEST_F(IndexFaults, AnIndexThatIsNoObjectIsRefused) {
  for (const char* text : {"", "[]", "{}", R"({"weight_map": []})"}) {
    dir_.write(std::string("m/") + kIndexFile, text);
    expect_error(ErrorCode::kContradictoryShards, {kIndexFile},
                 [&] { HfDirectory directory(path_); });
  }
}

TEST_F(IndexFaults, ATruncatedShardIsE0303) {
  const fs::path shard = path_ / "model-00002-of-00002.safetensors";
  fs::resize_file(shard, fs::file_size(shard) - 1);
  expect_error(ErrorCode::kBrokenFile, {"model-00002-of-00002.safetensors", "truncated"},
               [&] { HfDirectory directory(path_); });
}

TEST(HfDirectory, TheDigestIsThatOfTheTensorsWhateverTheSharding) {
  TempDir dir;
  const TensorMap map = testing::small_model();
  auto stored = testing::stored_per_expert(map, DType::kF32);
  const HfDirectory single(testing::write_single(dir, "a", stored));
  const HfDirectory sharded(testing::write_sharded(dir, "b", stored, 3));
  EXPECT_EQ(single.digest(1), sharded.digest(3));
  EXPECT_NE(single.quick_digest(), sharded.quick_digest());
  const auto bytes = testing::to_bytes(stored[0].values, DType::kF32);
  EXPECT_EQ(single.tensor_digests().at(stored[0].name), xxh3(bytes));
  stored[4].values[2] += 1;
  const HfDirectory changed(testing::write_single(dir, "c", stored));
  EXPECT_NE(single.digest(), changed.digest());
  EXPECT_EQ(single.quick_digest(), changed.quick_digest());  // it does not look at values
}

TEST(HfDirectory, TheDtypeComesFromEitherKeyOfTheConfig) {
  EXPECT_EQ(config_dtype({{"dtype", "bfloat16"}}), DType::kBF16);
  EXPECT_EQ(config_dtype({{"torch_dtype", "float16"}}), DType::kF16);
  EXPECT_EQ(config_dtype({{"dtype", nullptr}, {"torch_dtype", "float32"}}), DType::kF32);
  EXPECT_EQ(config_dtype(nlohmann::json::object()), DType::kF32);
  expect_error(ErrorCode::kBadStoredDType, {"int8"}, [] { config_dtype({{"dtype", "int8"}}); });
}

}  // namespace
}  // namespace sutor
