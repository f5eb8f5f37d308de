// Verification goes on after damage and names all of it, with what was expected and what was found.
#include "checkpoint/compare/verification.h"

#include <gtest/gtest.h>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "tests/support/base_store_builder.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::TempDir;

void flip(const TempDir& dir, const fs::path& file, int64_t at) {
  std::string bytes = dir.read(file);
  bytes[static_cast<size_t>(at)] ^= 4;
  dir.write(fs::relative(file, dir.path()).string(), bytes);
}

std::vector<std::string> files_of(const Verification& result) {
  std::vector<std::string> names;
  for (const Corruption& corruption : result.corruption) {
    names.push_back(fs::path(corruption.file).filename().string());
  }
  return names;
}

class StoreVerification : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = testing::small_model();
    testing::write_single(dir_, "m", testing::stored_per_expert(model_, DType::kF32));
    dir_.write("m/tokenizer.json", "{}");
    testing::make_store(dir_ / "m", dir_ / "store");
  }
  Verification verified() const { return verify_base_store(dir_ / "store", &model_, 2); }

  TempDir dir_;
  TensorMap model_;
};

TEST_F(StoreVerification, ASoundOneIsTheModelItWasMadeOf) {
  const Verification store = verified(), model = verify_model(dir_ / "m", &model_, 2);
  EXPECT_TRUE(store.corruption.empty() && model.corruption.empty());
  EXPECT_EQ(store.tensors, static_cast<int64_t>(model_.size()));
  EXPECT_EQ(store.weights, model.weights);
  EXPECT_EQ(store.tensor_digests, model.tensor_digests);
  EXPECT_GT(store.bytes, model.bytes);
}

TEST_F(StoreVerification, EveryBadTileIsNamedOnce) {
  const StoreIndex index = decode_store_index(dir_.read("store/b00000.idx"), "x");
  for (const size_t tile : {size_t{0}, size_t{3}}) {
    flip(dir_, dir_ / "store/b00000.h5", index.tiles.at(tile).offset);
    flip(dir_, dir_ / "store/b00000.h5", index.tiles.at(tile).offset + 1);
  }
  const Verification result = verified();
  ASSERT_EQ(result.corruption.size(), 2u);
  for (const Corruption& corruption : result.corruption) {
    EXPECT_EQ(corruption.code, ErrorCode::kCorrupted);
    EXPECT_EQ(corruption.expected.size(), std::string("crc32c 01234567").size());
    EXPECT_NE("crc32c " + corruption.found, corruption.expected);
    EXPECT_NE(corruption.text().find(corruption.location), std::string::npos);
    EXPECT_NE(corruption.text().find("sutor convert"), std::string::npos);
  }
  EXPECT_NE(result.corruption[0].location, result.corruption[1].location);
}

TEST_F(StoreVerification, AllFilesOfAnotherSizeAreNamedTogether) {
  dir_.write("store/b00000.idx", "short");
  fs::remove(dir_ / "store/files/tokenizer.json");
  dir_.write("store/files/extra.txt", "?");
  EXPECT_EQ(files_of(verified()),
            (std::vector<std::string>{"b00000.idx", "extra.txt", "tokenizer.json"}));
}

TEST_F(StoreVerification, CorruptionBesideTheTilesAndInOtherFilesIsNamed) {
  flip(dir_, dir_ / "store/b00000.h5", 9);
  dir_.write("store/files/tokenizer.json", "[]");
  EXPECT_EQ(files_of(verified()), (std::vector<std::string>{"b00000.h5", "tokenizer.json"}));
}

TEST_F(StoreVerification, AModelOfAnotherShapeIsCorruption) {
  TensorMap other;
  for (TensorEntry entry : model_.entries()) {
    if (entry.name == "model.norm.weight") entry.shape = {testing::kHidden + 1};
    other.add(std::move(entry));
  }
  for (const Verification& result :
       {verify_base_store(dir_ / "store", &other, 1), verify_model(dir_ / "m", &other, 1)}) {
    ASSERT_EQ(result.corruption.size(), 1u);
    EXPECT_EQ(result.corruption[0].code, ErrorCode::kWrongShape);
  }
  EXPECT_TRUE(verify_base_store(dir_ / "store", nullptr, 1).corruption.empty());
}

TEST_F(StoreVerification, BrokenShardsOfADirectoryAreAllNamed) {
  testing::write_sharded(dir_, "s", testing::stored_per_expert(model_, DType::kF32), 3);
  for (const char* file :
       {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    const std::string bytes = dir_.read(std::string("s/") + file);
    dir_.write(std::string("s/") + file, bytes.substr(0, bytes.size() - 1));
  }
  const Verification result = verify_model(dir_ / "s", &model_, 1);
  ASSERT_EQ(result.corruption.size(), 2u);
  for (const Corruption& corruption : result.corruption)
    EXPECT_EQ(corruption.code, ErrorCode::kBrokenFile);
  fs::remove(dir_ / "s/config.json");
  EXPECT_EQ(verify_model(dir_ / "m/nothing", &model_, 1).corruption.at(0).code,
            ErrorCode::kNoModel);
}

TEST(CheckpointVerification, NamesEveryBadTileAndMissingFile) {
  TempDir dir;
  testing::SampleValues values(testing::sample_tensors());
  const fs::path step = testing::save_sample(dir.path(), 3, values);
  EXPECT_TRUE(verify_checkpoint(step, 2).corruption.empty());
  const TileIndex index = decode_index(dir.read(step / "w0001.idx"), 1 << 30, "w0001.idx");
  for (const Tile& tile : {index.tiles.front(), index.tiles.back()}) {
    flip(dir, step / "w0001.h5", tile.offset);
  }
  const Verification result = verify_checkpoint(step, 2);
  ASSERT_EQ(result.corruption.size(), 2u);
  const Tile& tile = index.tiles.back();
  EXPECT_EQ(result.corruption[1].location,
            "tile " + dataset_path(index.tensors[tile.tensor], tile));
  EXPECT_EQ(result.corruption[1].expected, tile.digest.text());
  fs::remove(step / "w0000.h5");
  fs::remove(step / kStateFile);
  EXPECT_EQ(files_of(verify_checkpoint(step, 2)),
            (std::vector<std::string>{"state.h5", "w0000.h5"}));
}

}  // namespace
}  // namespace sutor
