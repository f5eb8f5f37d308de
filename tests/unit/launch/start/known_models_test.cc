// The figures of published models are those of their configs, and the proofs are tests that exist.
#include "launch/start/known_models.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "csrc/base/error.h"
#include "layers/models/registry.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

const std::filesystem::path kRoot = std::filesystem::path(SUTOR_TEST_DATA).parent_path();

TEST(KnownModels, HaveTheFiguresOfTheirConfigs) {
  std::ifstream file(kRoot / "tests/golden/published_configs.json");
  std::set<std::string> names;
  for (const nlohmann::json& published : nlohmann::json::parse(file)) {
    const auto name = published["name"].get<std::string>();
    names.insert(name);
    const KnownModel* known = nullptr;
    for (const KnownModel& model : known_models()) {
      if (model.name == name) known = &model;
    }
    ASSERT_NE(known, nullptr) << name;
    const nlohmann::json& config = published["config"];
    const ModelInfo info = family_of(config).info(config);
    EXPECT_EQ(known->family, info.family) << name;
    EXPECT_EQ(known->layers, info.num_layers) << name;
    EXPECT_EQ(known->experts, info.num_experts) << name;
    EXPECT_EQ(known->top_k, info.top_k) << name;
    EXPECT_DOUBLE_EQ(known->billions, std::stod(published["billions"].get<std::string>())) << name;
    EXPECT_DOUBLE_EQ(known->active_billions,
                     std::stod(published["active_billions"].get<std::string>()))
        << name;
  }
  for (const KnownModel& model : known_models()) {
    EXPECT_TRUE(names.count(std::string(model.name))) << model.name;
  }
}

TEST(KnownModels, EveryFamilyHasModelsAndProofs) {
  testing::TempDir dir;
  const std::string shapes = dir.read(kRoot / "tests/interop/models.py");
  for (const Family& family : families()) {
    const auto facts = models_json(std::string(family.name));
    EXPECT_FALSE(facts["models"].empty()) << family.name;
    const std::vector<Proof> proofs = proofs_of(family.name);
    EXPECT_GE(proofs.size(), 3u) << family.name;
    for (const Proof& proof : proofs) {
      EXPECT_FALSE(dir.read(kRoot / proof.file).empty()) << proof.file;
      EXPECT_NE(shapes.find("(\"" + proof.shape + "\""), std::string::npos) << proof.shape;
    }
  }
}

TEST(KnownModels, TestsOfLayoutsAndReleasesNameTheirShapes) {
  testing::TempDir dir;
  for (const Family& family : families()) {
    for (const Proof& proof : proofs_of(family.name)) {
      const std::string text = dir.read(kRoot / proof.file);
      const bool all = text.find("models.SHAPES") != std::string::npos;
      EXPECT_TRUE(all || text.find(proof.shape) != std::string::npos)
          << proof.file << " " << proof.shape;
    }
  }
}

TEST(KnownModels, AreFoundByTheirNamesInAnyCase) {
  EXPECT_EQ(models_json("qwen3-30b-a3b")["family"], "qwen3_moe");
  EXPECT_NE(models_text("GPT-OSS-20B").find("gpt_oss"), std::string::npos);
  testing::expect_error(ErrorCode::kBadArgument, {"did you mean `mixtral`"},
                        [] { models_text("mixtrall"); });
}

}  // namespace
}  // namespace sutor
