// Exports contain the trained values and every other byte of the base; the verifiers see each
// fault.
#include <gtest/gtest.h>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/merged_export.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::expect_error;
using testing::expert_name;
using testing::OwnedTensor;
using testing::TempDir;

enum class Form { kSingle, kSharded, kFused };

// A base model with the files that a published one has, and two trained tensors in fp32.
class Export : public ::testing::Test {
 protected:
  fs::path write_base(const std::string& name, Form form, DType dtype = DType::kBF16) {
    auto stored = form == Form::kFused ? testing::stored_fused(map_, dtype)
                                       : testing::stored_per_expert(map_, dtype);
    stored.push_back({"extra.weight", {3}, {7, 8, 9}, DType::kF32});  // not a tensor of the model
    const fs::path path = form == Form::kSharded ? testing::write_sharded(dir_, name, stored, 4)
                                                 : testing::write_single(dir_, name, stored);
    dir_.write(name + "/tokenizer.json", "{\"a\": 1}");
    dir_.write(name + "/assets/logo.txt", "logo");
    dir_.write(name + "/.git/HEAD", "not a part of the model");
    return path;
  }

  std::vector<TrainedTensor> train(const std::vector<std::string>& names, float change = 1.0f) {
    std::vector<TrainedTensor> trained;
    for (const std::string& name : names) {
      std::vector<float> values = testing::values_of(map_, name);
      for (float& value : values) value += change;
      memory_.emplace_back(*map_.find(name), DType::kF32, values);
      trained.push_back(trained_tensor(memory_.back().view));
    }
    return trained;
  }

  std::string bytes_of(const HfDirectory& directory, const std::string& name) {
    const ResolvedSource found = *directory.resolve(*map_.find(name));
    std::string bytes(static_cast<size_t>(found.end() - found.begin()), '\0');
    found.stored.file->read_at(found.begin(),
                               std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
    return bytes;
  }

  TempDir dir_;
  TensorMap map_ = testing::small_model();
  std::vector<std::string> names_ = {expert_name(1, "up"), expert_name(0, "down")};
  std::vector<OwnedTensor> memory_;
  ExportOrigin origin_{xxh3("base").text(), {{"program", "test"}}};
};

TEST_F(Export, WithoutTrainedTensorsEveryFileEqualsTheBase) {
  for (const Form form : {Form::kSingle, Form::kSharded, Form::kFused}) {
    const std::string tag = std::to_string(static_cast<int>(form));
    const HfDirectory base(write_base("base" + tag, form));
    dir_.write("base" + tag + "/consolidated.safetensors", "weights in another form");
    EXPECT_TRUE(export_merged(base, map_, {}, dir_ / ("out" + tag), origin_).digests.empty());
    int files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(base.path())) {
      const fs::path relative = entry.path().lexically_relative(base.path());
      if (!entry.is_regular_file() || *relative.begin() == ".git") continue;
      EXPECT_EQ(dir_.read(dir_ / ("out" + tag) / relative), dir_.read(entry.path())) << relative;
      ++files;
    }
    const VerifyReport report = verify_merged(base, map_, dir_ / ("out" + tag), {});
    EXPECT_EQ(report.changed, 0);
    EXPECT_EQ(report.identical, static_cast<int64_t>(base.num_tensors()));
    EXPECT_EQ(report.other_files + static_cast<int64_t>(base.shards().size()), files);
  }
}

TEST_F(Export, TrainedTensorsAreReplacedInTheBasesDtypeAndNothingElseIs) {
  for (const Form form : {Form::kSingle, Form::kSharded, Form::kFused}) {
    const std::string tag = std::to_string(static_cast<int>(form));
    const HfDirectory base(write_base("base" + tag, form));
    const auto trained = train(names_);
    const auto changed = export_merged(base, map_, trained, dir_ / ("out" + tag), origin_).digests;
    ASSERT_EQ(changed.size(), 2u);
    const HfDirectory merged(dir_ / ("out" + tag));
    merged.check(map_);
    for (const TensorEntry& entry : map_.entries()) {
      std::vector<float> expected = testing::values_of(map_, entry.name);
      const bool is_trained = changed.count(entry.name) > 0;
      if (is_trained) {
        for (float& value : expected) value += 1.0f;
      }
      const auto bytes = testing::to_bytes(expected, DType::kBF16);
      const std::string found = bytes_of(merged, entry.name);
      EXPECT_EQ(found, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
      if (is_trained) {
        EXPECT_EQ(changed.at(entry.name), xxh3(found));
      }
    }
    const VerifyReport report = verify_merged(base, map_, dir_ / ("out" + tag), changed);
    EXPECT_EQ(report.changed, 2);
    // Two single tensors, or one slice each of the two fused ones.
    EXPECT_EQ(report.identical, static_cast<int64_t>(base.num_tensors()) - 2);
    const auto info = nlohmann::json::parse(dir_.read("out" + tag + "/sutor_export.json"));
    EXPECT_EQ(info["base_digest"], origin_.base_digest);
    EXPECT_EQ(info["tensors"].size(), 2u);
  }
}

TEST_F(Export, StaleWeightsOfOtherFormsAreLeftOutOnceSomethingIsTrained) {
  const HfDirectory base(write_base("base", Form::kSingle));
  for (const char* name : {"consolidated.safetensors", "pytorch_model.bin", "original/model.pth",
                           "model.safetensors.index.json", "sutor_export.json"}) {
    dir_.write(std::string("base/") + name, "untrained");
  }
  const auto changed = export_merged(base, map_, train(names_), dir_ / "out", origin_).digests;
  EXPECT_FALSE(fs::exists(dir_ / "out/consolidated.safetensors"));
  EXPECT_FALSE(fs::exists(dir_ / "out/pytorch_model.bin"));
  EXPECT_FALSE(fs::exists(dir_ / "out/original/model.pth"));
  EXPECT_FALSE(fs::exists(dir_ / "out/model.safetensors.index.json"));
  EXPECT_NE(dir_.read("out/sutor_export.json"), "untrained");
  EXPECT_EQ(dir_.read("out/assets/logo.txt"), "logo");
  verify_merged(base, map_, dir_ / "out", changed);
}

TEST_F(Export, NamesAndShapesThatDoNotFitAreRefused) {
  const HfDirectory base(write_base("base", Form::kSingle));
  auto trained = train(names_);
  trained[0].name = "model.layers.9.ghost";
  expect_error(ErrorCode::kMissingTensor, {"model.layers.9.ghost"},
               [&] { export_merged(base, map_, trained, dir_ / "out", origin_); });
  trained = train(names_);
  trained[0].shape = {testing::kHidden, testing::kWidth};
  expect_error(ErrorCode::kWrongShape, {names_[0], "[4, 3]", "[3, 4]"},
               [&] { export_merged(base, map_, trained, dir_ / "out", origin_); });
  EXPECT_FALSE(fs::exists(dir_ / "out"));
}

class MergedFaults : public Export {
 protected:
  void SetUp() override {
    base_ = std::make_unique<HfDirectory>(write_base("base", Form::kFused));
    changed_ = export_merged(*base_, map_, train(names_), dir_ / "out", origin_).digests;
  }
  // Flips the lowest bit of a byte of a file of the export.
  void flip(const std::string& file, int64_t offset) {
    std::string bytes = dir_.read("out/" + file);
    bytes[static_cast<size_t>(offset)] ^= 1;
    dir_.write("out/" + file, bytes);
  }
  void expect_failed(const std::vector<std::string>& words,
                     ErrorCode code = ErrorCode::kNotAsExpected) {
    expect_error(code, words, [&] { verify_merged(*base_, map_, dir_ / "out", changed_); });
  }
  int64_t begin_of(const std::string& name) { return base_->resolve(*map_.find(name))->begin(); }

  std::unique_ptr<HfDirectory> base_;
  std::map<std::string, Digest> changed_;
};

TEST_F(MergedFaults, AFlippedBitOfAnUntrainedTensorIsSeenAndNamed) {
  flip("model.safetensors", begin_of("model.norm.weight"));
  expect_failed({"model.norm.weight", "was not trained but differs"});
}

TEST_F(MergedFaults, AFlippedBitOfAnUntrainedSliceBesideATrainedOneIsSeen) {
  flip("model.safetensors", begin_of(expert_name(1, "up")) - 1);
  expect_failed({"gate_up_proj", "was not trained but differs"});
}

TEST_F(MergedFaults, AFlippedBitOfATrainedTensorIsSeenAndNamed) {
  flip("model.safetensors", begin_of(names_[0]));
  expect_failed({names_[0], changed_.at(names_[0]).text()});
}

TEST_F(MergedFaults, AFlippedBitAnywhereInTheWeightsIsSeen) {
  const std::string whole = dir_.read("out/model.safetensors");
  for (size_t i = 0; i < whole.size(); i += 7) {  // header, tensors, slices
    std::string bytes = whole;
    bytes[i] ^= 4;
    dir_.write("out/model.safetensors", bytes);
    EXPECT_THROW(verify_merged(*base_, map_, dir_ / "out", changed_), Error) << "byte " << i;
  }
}

TEST_F(MergedFaults, OtherFilesAreCompared) {
  flip("tokenizer.json", 3);
  expect_failed({"tokenizer.json", "differs"});
  fs::remove(dir_ / "out/tokenizer.json");
  expect_failed({"tokenizer.json", "is missing"});
}

TEST_F(MergedFaults, AFileThatTheBaseLacksIsSeen) {
  dir_.write("out/added.txt", "");
  expect_failed({"added.txt", "not in the base"});
}

TEST_F(MergedFaults, AMissingShardIsSeen) {
  fs::remove(dir_ / "out/model.safetensors");
  expect_failed({"model.safetensors", "is missing"});
}

TEST_F(MergedFaults, ATrainedTensorThatEqualsTheBaseIsAFailure) {
  const auto trained = train({expert_name(1, "gate")}, 0.0f);
  changed_ = export_merged(*base_, map_, trained, dir_ / "same", origin_).digests;
  expect_error(ErrorCode::kTrainedEqualsBase, {expert_name(1, "gate"), "equals the base"},
               [&] { verify_merged(*base_, map_, dir_ / "same", changed_); });
}

class AdapterFiles : public Export {
 protected:
  void SetUp() override {
    base_ = std::make_unique<HfDirectory>(write_base("base", Form::kSharded));
    origin_.base_digest = base_->digest().text();
    config_.experts[1] = {1, 0};
    trained_ = train(names_);
    store_as_base(trained_, *base_, map_);
  }
  std::map<std::string, Digest> expected() { return stored_digests(trained_); }

  std::unique_ptr<HfDirectory> base_;
  ExpertConfig config_;
  std::vector<TrainedTensor> trained_;
};

TEST_F(AdapterFiles, WhatIsWrittenIsReadBackInTheBasesDtype) {
  write_adapter(dir_ / "adapter", trained_, config_, origin_);
  const Adapter adapter(dir_ / "adapter");
  EXPECT_TRUE(is_adapter(dir_ / "adapter"));
  EXPECT_FALSE(is_adapter(base_->path()));
  EXPECT_EQ(adapter.config().experts, config_.experts);
  EXPECT_EQ(adapter.base_digest(), base_->digest());
  EXPECT_EQ(adapter.recorded_digests(), expected());
  ASSERT_EQ(adapter.tensors().size(), 2u);
  EXPECT_EQ(adapter.tensors().at(names_[0]).entry->dtype, DType::kBF16);
  EXPECT_EQ(verify_adapter(*base_, map_, adapter, expected()).changed, 2);
}

TEST_F(AdapterFiles, AnAdapterMergesIntoWhatTheTrainedTensorsGive) {
  write_adapter(dir_ / "adapter", trained_, config_, origin_);
  const Adapter adapter(dir_ / "adapter");
  const auto direct = export_merged(*base_, map_, trained_, dir_ / "direct", origin_).digests;
  const auto merged =
      export_merged(*base_, map_, adapter.trained_tensors(), dir_ / "merged", origin_).digests;
  EXPECT_EQ(direct, merged);
  EXPECT_EQ(HfDirectory(dir_ / "direct").digest(), HfDirectory(dir_ / "merged").digest());
}

TEST_F(AdapterFiles, LargeAdaptersAreSharded) {
  write_adapter(dir_ / "adapter", trained_, config_, origin_, 10);
  EXPECT_TRUE(fs::exists(dir_ / "adapter/model-00002-of-00002.safetensors"));
  EXPECT_TRUE(fs::exists(dir_ / "adapter/model.safetensors.index.json"));
  EXPECT_EQ(Adapter(dir_ / "adapter").tensors().size(), 2u);
}

TEST_F(AdapterFiles, TheAuthorsFormIsReadWithAndWithoutTheLeadingModel) {
  dir_.write("old/expert_cfg.json", to_json(config_));
  testing::write_safetensors(dir_ / "old/0.safetensors",
                             {{names_[0].substr(6), {3, 4}, std::vector<float>(12, 1.0f)}});
  testing::write_safetensors(dir_ / "old/1.safetensors",
                             {{names_[1], {4, 3}, std::vector<float>(12, 2.0f)}});
  const Adapter adapter(dir_ / "old");
  EXPECT_FALSE(adapter.base_digest().has_value());
  EXPECT_EQ(adapter.tensors().count(names_[0]), 1u);
  EXPECT_EQ(adapter.tensors().count(names_[1]), 1u);
  adapter.check_base(xxh3("anything"), "any");  // it does not say which base it has
}

TEST_F(AdapterFiles, AnotherBaseIsE0305) {
  write_adapter(dir_ / "adapter", trained_, config_, origin_);
  const Adapter adapter(dir_ / "adapter");
  expect_error(ErrorCode::kOtherBase, {"other", xxh3("x").text()},
               [&] { adapter.check_base(xxh3("x"), "other"); });
  const HfDirectory other(write_base("base2", Form::kSingle, DType::kF32));
  expect_error(ErrorCode::kOtherBase, {"base2"},
               [&] { verify_adapter(other, map_, adapter, expected()); });
}

TEST_F(AdapterFiles, FoldersThatAreNotAdaptersAreE0308) {
  expect_error(ErrorCode::kNotAdapter, {"not a directory"}, [&] { Adapter(dir_ / "nothing"); });
  expect_error(ErrorCode::kNotAdapter, {"expert_cfg.json"}, [&] { Adapter{base_->path()}; });
  dir_.write("empty/expert_cfg.json", to_json(config_));
  expect_error(ErrorCode::kNotAdapter, {"*.safetensors"}, [&] { Adapter(dir_ / "empty"); });
}

TEST_F(AdapterFiles, TensorsThatOccurTwiceOrAreNotListedAreE0308) {
  write_adapter(dir_ / "adapter", trained_, config_, origin_);
  testing::write_safetensors(dir_ / "adapter/x.safetensors", {{"new.weight", {1}, {1}}});
  expect_error(ErrorCode::kNotAdapter, {"new.weight", "not listed"},
               [&] { Adapter(dir_ / "adapter"); });
  fs::remove(dir_ / "adapter/x.safetensors");
  testing::write_safetensors(dir_ / "adapter/x.safetensors", {{names_[0].substr(6), {1}, {1}}});
  expect_error(ErrorCode::kNotAdapter, {names_[0], "twice"}, [&] { Adapter(dir_ / "adapter"); });
}

TEST_F(AdapterFiles, BrokenAdapterInfoIsE0308) {
  write_adapter(dir_ / "adapter", trained_, config_, origin_);
  // As older programs wrote it: changes of newer ones are seen by the digest, E0342.
  auto good = nlohmann::json::parse(dir_.read("adapter/sutor_adapter.json"));
  for (const char* key : {"digest", "files", "format"}) good.erase(key);
  const auto refuses = [&](const nlohmann::json& info, const std::string& word) {
    dir_.write("adapter/sutor_adapter.json", info.dump());
    expect_error(ErrorCode::kNotAdapter, {"sutor_adapter.json", word},
                 [&] { Adapter(dir_ / "adapter"); });
  };
  refuses(nlohmann::json::array(), "not a JSON object");
  for (const char* key : {"format_version", "base_digest", "tensors"}) {
    nlohmann::json info = good;
    info.erase(key);
    refuses(info, key);
  }
  nlohmann::json info = good;
  info["format_version"] = 2;
  refuses(info, "version 1");
  info = good;
  info["tensors"]["ghost"] = xxh3("").text();
  refuses(info, "ghost");
}

TEST_F(AdapterFiles, VerifyNamesWhatIsNotAsTrained) {
  write_adapter(dir_ / "adapter", trained_, config_, origin_);
  const Adapter adapter(dir_ / "adapter");
  auto digests = expected();
  digests[names_[0]] = xxh3("other");
  expect_error(ErrorCode::kNotAsExpected, {names_[0]},
               [&] { verify_adapter(*base_, map_, adapter, digests); });
  digests = expected();
  digests["model.norm.weight"] = xxh3("other");
  expect_error(ErrorCode::kNotAsExpected, {"model.norm.weight", "missing"},
               [&] { verify_adapter(*base_, map_, adapter, digests); });
  digests = expected();
  digests.erase(names_[0]);
  expect_error(ErrorCode::kNotAsExpected, {names_[0], "not trained"},
               [&] { verify_adapter(*base_, map_, adapter, digests); });
}

TEST_F(AdapterFiles, AValueThatEqualsTheBaseInItsDtypeIsAFailure) {
  trained_ = train(names_, 0.0f);  // kept in fp32, equal to the bf16 base once rounded
  write_adapter(dir_ / "adapter", trained_, config_, origin_);
  const Adapter adapter(dir_ / "adapter");
  expect_error(ErrorCode::kTrainedEqualsBase, {"equals the base"},
               [&] { verify_adapter(*base_, map_, adapter, expected()); });
}

}  // namespace
}  // namespace sutor
