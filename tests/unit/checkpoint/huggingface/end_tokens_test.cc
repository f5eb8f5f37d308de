// The end tokens that a model's files name, and a generation_config.json that names more.
#include "checkpoint/huggingface/end_tokens.h"

#include <gtest/gtest.h>

#include "checkpoint/huggingface/hf_directory.h"
#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
using nlohmann::json;
using testing::expect_error;

class EndTokens : public ::testing::Test {
 protected:
  // A model whose files say this; an empty text: no generation_config.json.
  HfDirectory model(const std::string& config, const std::string& generation) {
    const std::string name = "m" + std::to_string(models_++);
    const auto path = testing::write_single(
        dir_, name, testing::stored_per_expert(testing::small_model(), DType::kF32));
    dir_.write(name + "/config.json", config);
    if (!generation.empty()) dir_.write(name + "/generation_config.json", generation);
    return HfDirectory(path);
  }

  // The keys of the new file; null where none is needed.
  json with(const std::string& config, const std::string& generation,
            const std::set<int64_t>& trained) {
    const auto text = generation_config_with(model(config, generation), trained);
    return text ? json::parse(*text) : json();
  }

  testing::TempDir dir_;
  int models_ = 0;
};

TEST_F(EndTokens, AreThoseOfBothFiles) {
  EXPECT_EQ(end_tokens(model(R"({"eos_token_id": 4})", R"({"eos_token_id": [2, 3]})")),
            (std::set<int64_t>{2, 3, 4}));
  EXPECT_EQ(end_tokens(model("{}", "")), std::set<int64_t>{});
  EXPECT_EQ(end_tokens(model(R"({"eos_token_id": null})", R"({"eos_token_id": ["a", 7]})")),
            std::set<int64_t>{7});
  expect_error(ErrorCode::kBadModelConfig, {"generation_config.json", "not a JSON object"},
               [&] { end_tokens(model("{}", "[1]")); });
}

TEST_F(EndTokens, WhatWasTrainedIsAddedBehindWhatWasThere) {
  EXPECT_EQ(with("{}", R"({"eos_token_id": 5, "top_p": 0.5})", {3, 5}),
            json::parse(R"({"eos_token_id": [5, 3], "top_p": 0.5})"));
  EXPECT_EQ(with("{}", R"({"eos_token_id": [9, 5]})", {3}),
            json::parse(R"({"eos_token_id": [9, 5, 3]})"));
}

TEST_F(EndTokens, AFileThatNamesThemStaysAsItIs) {
  EXPECT_EQ(with("{}", R"({"eos_token_id": [9, 5]})", {5}), json());
  EXPECT_EQ(with("{}", R"({"eos_token_id": 5})", {}), json());
  EXPECT_EQ(with("{}", "", {}), json());
  EXPECT_EQ(with(R"({"eos_token_id": 5})", "", {5}), json());
  EXPECT_EQ(with(R"({"eos_token_id": 5})", "{}", {5}), json());
}

TEST_F(EndTokens, ANewFileSaysWhatTheConfigSaid) {
  EXPECT_EQ(with(R"({"eos_token_id": 5, "bos_token_id": 1, "pad_token_id": null})", "", {3}),
            json::parse(R"({"bos_token_id": 1, "eos_token_id": [5, 3]})"));
}

}  // namespace
}  // namespace sutor
