// Keys of config.json that say the same thing twice, or are null: which one counts is what
// transformers 5.23.0 does (tests/interop/families/test_config_keys.py compares logits).
#include <gtest/gtest.h>

#include "layers/decoder/config_conflicts.h"
#include "layers/decoder/config_reader.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using nlohmann::json;
using testing::expect_error;

const json kYarn = {
    {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};
const json kPlain = {{"rope_type", "default"}, {"rope_theta", 500.0}};

RopeConfig read(const json& config, std::optional<double> partial = {},
                const json& default_section = {}) {
  return ConfigReader(config).rope(10000, partial, default_section);
}

json with(json section, const char* key, const json& value) {
  section[key] = value;
  return section;
}

TEST(ConfigKeys, RopeScalingWinsOverRopeParametersAsAWhole) {
  const json both = {{"rope_parameters", kPlain}, {"rope_scaling", kYarn}};
  EXPECT_EQ(read(both).type, "yarn");
  EXPECT_EQ(read(both).theta, 10000);  // not that of the section that does not count
  EXPECT_EQ(read(with(both, "rope_theta", 700)).theta, 700);
  for (const json& none : {json(nullptr), json::object()}) {
    EXPECT_EQ(read(with(both, "rope_scaling", none)).type, "default");
    EXPECT_EQ(read(with(both, "rope_scaling", none)).theta, 500);
  }
}

TEST(ConfigKeys, ADefaultSectionCountsOnlyWhereThereIsNone) {
  EXPECT_EQ(read({{"rope_theta", 5.0}}, {}, kYarn).type, "yarn");
  EXPECT_EQ(read({{"rope_theta", 5.0}}, {}, kYarn).theta, 5);
  EXPECT_EQ(read({{"rope_parameters", nullptr}}, {}, kYarn).type, "yarn");
  EXPECT_EQ(read({{"rope_parameters", json::object()}}, {}, kYarn).type, "default");
  EXPECT_EQ(read({{"rope_scaling", json::object()}}, {}, kYarn).type, "yarn");
}

TEST(ConfigKeys, InsideTheSectionWinsButForTheOriginalContext) {
  EXPECT_EQ(read({{"rope_parameters", kPlain}, {"rope_theta", 700.0}}).theta, 500);
  const json partial = with(kPlain, "partial_rotary_factor", 0.5);
  EXPECT_EQ(read({{"rope_parameters", partial}, {"partial_rotary_factor", 0.25}}, 0.75).partial,
            0.5);
  EXPECT_EQ(read({{"rope_parameters", kPlain}, {"partial_rotary_factor", nullptr}}, 0.75).partial,
            1);
  const char* key = "original_max_position_embeddings";
  EXPECT_EQ(read({{"rope_parameters", kYarn}, {key, 16}}).original_max_positions, 16);
  json section = kYarn;
  section.erase(key);
  EXPECT_EQ(read({{"rope_parameters", section}, {key, 16}}).original_max_positions, 16);
  EXPECT_EQ(
      read({{"rope_parameters", section}, {"max_position_embeddings", 32}}).original_max_positions,
      32);
}

TEST(ConfigKeys, RopeTypeWinsOverType) {
  EXPECT_EQ(read({{"rope_scaling", with(kYarn, "type", "linear")}}).type, "yarn");
  EXPECT_EQ(read({{"rope_parameters", with(kPlain, "type", "yarn")}}).type, "default");
}

TEST(ConfigKeys, NullIsRefusedWhereItMeansNothing) {
  for (const auto& [config, key] : std::vector<std::pair<json, std::string>>{
           {{{"rope_theta", nullptr}}, "rope_theta"},
           {{{"rope_parameters", with(kPlain, "rope_theta", nullptr)}}, "rope_theta"},
           {{{"rope_parameters", with(kYarn, "rope_type", nullptr)}}, "rope_type"},
           {{{"rope_parameters", with(kYarn, "truncate", nullptr)}}, "truncate"},
           {{{"rope_parameters", kYarn}, {"original_max_position_embeddings", nullptr}},
            "original_max_position_embeddings"}}) {
    expect_error(ErrorCode::kBadModelConfig, {"`" + key + "` is null"}, [&] { read(config); });
  }
  const json nulls = {
      {"tie_word_embeddings", nullptr}, {"sliding_window", nullptr}, {"head_dim", nullptr}};
  expect_error(ErrorCode::kBadModelConfig, {"tie_word_embeddings", "null"},
               [&] { ConfigReader(nulls).flag_or({"tie_word_embeddings"}, false); });
  EXPECT_EQ(ConfigReader(nulls).integer_or({"sliding_window"}, 7), 7);
  expect_error(ErrorCode::kBadModelConfig, {"head_dim"},
               [&] { ConfigReader(nulls).integer_or({"head_dim"}, 7); });
  EXPECT_EQ(ConfigReader(nulls, {}, {"head_dim"}).integer_or({"head_dim"}, 7), 7);
}

TEST(ConfigKeys, AliasesThatContradictEachOtherAreRefusedWithBoth) {
  const json both = {{"num_experts", 8}, {"num_local_experts", 4}};
  expect_error(ErrorCode::kBadModelConfig, {"`num_experts` = 8", "`num_local_experts` = 4"}, [&] {
    ConfigReader(both).integer({"num_experts", "num_local_experts"});
  });
  EXPECT_EQ(ConfigReader(with(both, "num_local_experts", 8))
                .integer({"num_experts", "num_local_experts"}),
            8);
}

TEST(ConfigKeys, WhatIsIgnoredIsSaidWithBothValues) {
  struct Case {
    json config;
    const char *counts, *ignored;
  };
  for (const Case& each : std::vector<Case>{
           {{{"rope_parameters", kPlain}, {"rope_scaling", kYarn}},
            "`rope_scaling` =",
            "`rope_parameters` ="},
           {{{"rope_parameters", kPlain}, {"rope_theta", 7}},
            "`rope_parameters.rope_theta` = 500.0",
            "`rope_theta` = 7"},
           {{{"rope_scaling", with(kYarn, "type", "linear")}},
            "`rope_scaling.rope_type` = \"yarn\"",
            "`rope_scaling.type` = \"linear\""},
           {{{"rope_parameters", kYarn}, {"original_max_position_embeddings", 8}},
            "`original_max_position_embeddings` = 8",
            "`rope_parameters.original_max_position_embeddings` = 64"},
           {{{"dtype", "bfloat16"}, {"torch_dtype", "float16"}}, "`dtype`", "`torch_dtype`"},
           {{{"num_experts_per_tok", 4}, {"experts_per_token", 2}},
            "`num_experts_per_tok` = 4",
            "`experts_per_token` = 2"},
           {{{"num_experts", 4}, {"num_local_experts", 2}},
            "`num_experts` = 4",
            "`num_local_experts` = 2"},
           {{{"first_k_dense_replace", 1}, {"mlp_layer_types", {"sparse", "sparse"}}},
            "`first_k_dense_replace` = 1",
            "`mlp_layer_types` = "}}) {
    const std::vector<std::string> said = doubled_config_keys(each.config);
    ASSERT_EQ(said.size(), 1) << each.config;
    EXPECT_NE(said[0].find(std::string(each.counts)), std::string::npos) << said[0];
    EXPECT_NE(said[0].find(std::string(each.ignored)), std::string::npos) << said[0];
    EXPECT_LT(said[0].find(" counts"), said[0].find(each.ignored)) << said[0];
  }
  const json agreeing = {{"rope_parameters", kYarn},   {"rope_scaling", kYarn},
                         {"dtype", "bfloat16"},        {"torch_dtype", "bfloat16"},
                         {"num_experts", 4},           {"num_local_experts", 4},
                         {"first_k_dense_replace", 1}, {"mlp_layer_types", {"dense", "sparse"}}};
  EXPECT_TRUE(doubled_config_keys(agreeing).empty());
}

}  // namespace
}  // namespace sutor
