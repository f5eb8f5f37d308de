// The official expert config: bytes, strict reading, and the check against a model.
#include "parallel_state/model/expert_config.h"

#include <gtest/gtest.h>

#include "tests/support/message_of.h"
#include "tests/support/model_builders.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::deepseek_like;
using testing::message_of;
using testing::qwen_like;
using testing::TempDir;

const std::filesystem::path kGolden = SUTOR_TEST_DATA "/golden/esft";

TEST(ExpertConfig, PublishedConfigsAreWrittenBackByteForByte) {
  for (const char* task : {"intent", "summary"}) {
    const std::filesystem::path path = kGolden / (std::string(task) + ".config.json");
    EXPECT_EQ(to_json(read_expert_config(path)), TempDir().read(path)) << task;
  }
}

TEST(ExpertConfig, PublishedConfigsHoldAsManyExpertsAsTheAuthorsSay) {
  EXPECT_EQ(read_expert_config(kGolden / "intent.config.json").num_experts(), 124);
  EXPECT_EQ(read_expert_config(kGolden / "summary.config.json").num_experts(), 128);
}

TEST(ExpertConfig, WritingAndReadingKeepsOrderAndFlags) {
  const TempDir dir;
  ExpertConfig config;
  config.experts = {{2, {7, 1, 3}}, {10, {}}};
  config.shared_experts = true;
  write_expert_config(config, dir / "config.json");
  const ExpertConfig back = read_expert_config(dir / "config.json");
  EXPECT_EQ(back.experts, config.experts);
  EXPECT_TRUE(back.shared_experts);
  EXPECT_FALSE(back.non_expert_modules);
}

TEST(ExpertConfig, BadFilesAreRefusedWithTheReason) {
  const struct {
    const char* text;
    const char* reason;
  } cases[] = {
      {"", "not valid JSON"},
      {"[]", "no expert config"},
      {"{\"experts\": {}}", "`shared_experts` is missing"},
      {"{\"experts\": {}, \"shared_experts\": 1, \"non_expert_modules\": false}",
       "expected true or"},
      {"{\"experts\": {\"x\": [1]}, \"shared_experts\": false, \"non_expert_modules\": false}",
       "\"x\" of `experts` is no layer"},
      {"{\"experts\": {\"-1\": [1]}, \"shared_experts\": false, \"non_expert_modules\": false}",
       "no layer number"},
      {"{\"experts\": {\"01\": [1]}, \"shared_experts\": false, \"non_expert_modules\": false}",
       "no layer number"},
      {"{\"experts\": {\"1\": [1, 1]}, \"shared_experts\": false, \"non_expert_modules\": false}",
       "expert 1 twice"},
      {"{\"experts\": {\"1\": [1.5]}, \"shared_experts\": false, \"non_expert_modules\": false}",
       "no expert id"},
      {"{\"experts\": {\"1\": [-2]}, \"shared_experts\": false, \"non_expert_modules\": false}",
       "no expert id"},
      {"{\"experts\": {\"1\": 3}, \"shared_experts\": false, \"non_expert_modules\": false}",
       "instead of a list"},
      {"{\"experts\": {\"1\": [1], \"1\": [2]}, \"shared_experts\": false, \"non_expert_modules\": "
       "false}",
       "\"1\" stands twice"},
  };
  const TempDir dir;
  for (const auto& c : cases) {
    const auto path = dir.write("config.json", c.text);
    const std::string text =
        message_of([&] { read_expert_config(path); }, ErrorCode::kBadExpertConfig);
    EXPECT_NE(text.find(c.reason), std::string::npos) << c.text << "\n" << text;
    EXPECT_NE(text.find("config.json"), std::string::npos) << text;
  }
  message_of([&] { read_expert_config(dir / "missing.json"); }, ErrorCode::kUnreadableFile);
}

TEST(CheckExpertConfig, PublishedQwenConfigIsRefusedWithTheFixNamedAndAcceptedWithIt) {
  const ExpertConfig config = read_expert_config(kGolden / "qwen3_coder.config.json");
  const ModelInfo model = qwen_like(48, 128);
  const std::string text = message_of([&] { check_expert_config(config, model, 0, "qwen.json"); },
                                      ErrorCode::kNoSuchLayer);
  EXPECT_NE(text.find("qwen.json"), std::string::npos);
  EXPECT_NE(text.find("--layer-base 1"), std::string::npos) << text;
  EXPECT_NE(text.find("esft.layer_base: 1"), std::string::npos) << text;
  const ExpertConfig shifted = check_expert_config(config, model, 1, "qwen.json");
  EXPECT_EQ(shifted.experts.at(0), config.experts.at(1));
  EXPECT_EQ(shifted.experts.at(47), config.experts.at(48));
  EXPECT_EQ(shifted.num_experts(), config.num_experts());
}

TEST(CheckExpertConfig, PublishedDeepSeekConfigFitsItsModelAsItIs) {
  const ExpertConfig config = read_expert_config(kGolden / "intent.config.json");
  const ModelInfo model = deepseek_like(27, 1, 64);
  EXPECT_EQ(check_expert_config(config, model, 0, "intent.json").experts, config.experts);
  // A wrong base moves layer 1 onto the dense layer 0.
  const std::string text =
      message_of([&] { check_expert_config(config, model, 1, "x"); }, ErrorCode::kNoExpertsInLayer);
  EXPECT_NE(text.find("layer base"), std::string::npos) << text;
}

TEST(CheckExpertConfig, ASelectionThatSkipsTheLowestLayerIsNotTakenForShifted) {
  ExpertConfig config;
  config.experts = {{1, {0}}, {3, {2}}};
  EXPECT_EQ(check_expert_config(config, qwen_like(4, 8), 0, "x").experts, config.experts);
}

TEST(CheckExpertConfig, ConfigsOfOtherModelsAreRefused) {
  const ModelInfo model = deepseek_like(4, 1, 8);
  const auto refuse = [&](const ExpertConfig& config, ErrorCode code) {
    return message_of([&] { check_expert_config(config, model, 0, "config.json"); }, code);
  };
  ExpertConfig config;
  config.experts = {{9, {0}}};
  EXPECT_NE(refuse(config, ErrorCode::kNoSuchLayer).find("4 layers are 0 to 3"), std::string::npos);
  config.experts = {{0, {0}}};
  EXPECT_NE(refuse(config, ErrorCode::kNoExpertsInLayer).find("no routed experts"),
            std::string::npos);
  config.experts = {{1, {8}}};
  EXPECT_NE(refuse(config, ErrorCode::kNoSuchExpert).find("expert 8"), std::string::npos);
  config.experts = {{1, {}}};
  refuse(config, ErrorCode::kNothingTrains);
  config.shared_experts = true;
  message_of([&] { check_expert_config(config, model, -1, "x"); }, ErrorCode::kBadArgument);
  EXPECT_TRUE(check_expert_config(config, model, 0, "x").trains_anything());
}

}  // namespace
}  // namespace sutor
