// What a config.json may say: sizes out of their range are refused at once, in every family, with
// the key; all published configs are accepted.
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "layers/models/registry.h"

namespace sutor {
namespace {

using Json = nlohmann::json;

// The message with which a family refuses a config; "" when it does not.
std::string refusal(const Family& family, const Json& config) {
  try {
    family.info(config);
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ErrorCode::kBadModelConfig ||
                error.code() == ErrorCode::kUnsupportedModel)
        << error.report();
    return error.what();
  }
  return "";
}

// Every key of the tiny models that is a size which must be there and above 0.
const char* const kSizes[] = {
    "hidden_size",           "vocab_size",       "num_hidden_layers",
    "num_attention_heads",   "num_experts",      "num_local_experts",
    "n_routed_experts",      "kv_lora_rank",     "num_experts_per_tok",
    "moe_intermediate_size", "qk_nope_head_dim", "shared_expert_intermediate_size",
    "qk_rope_head_dim",      "v_head_dim",       "n_shared_experts",
    "num_key_value_heads",   "head_dim",         "max_position_embeddings",
    "decoder_sparse_step",   "intermediate_size"};

TEST(HostileConfig, SizesOutOfRangeAreRefusedByEveryFamilyWithTheKey) {
  const std::vector<Json> bad = {0,
                                 -1,
                                 2.5,
                                 2.0,
                                 true,
                                 "64",
                                 1'000'000'000'000,
                                 int64_t{1} << 62,
                                 std::numeric_limits<uint64_t>::max(),
                                 1e300,
                                 Json::array({4})};
  int tried = 0;
  for (const Family& family : families()) {
    const Json good = family.preset("tiny");
    ASSERT_EQ(refusal(family, good), "");
    for (const char* key : kSizes) {
      if (!good.contains(key) || good[key].is_null()) continue;
      // The family has no use for these.
      if (std::string_view(family.name).starts_with("deepseek") || family.name == "kimi_k2") {
        if (std::string_view(key) == "num_key_value_heads") continue;
      }
      for (const Json& value : bad) {
        Json config = good;
        config[key] = value;
        // A context may be as long as that.
        if (value == 1'000'000'000'000 && std::string_view(key) == "max_position_embeddings")
          continue;
        EXPECT_NE(refusal(family, config).find(key), std::string::npos)
            << family.name << ": " << key << " = " << value << ": " << refusal(family, config);
        ++tried;
      }
    }
  }
  EXPECT_GT(tried, 1000);
}

TEST(HostileConfig, NumbersThatAreNotPossibleAreRefusedWithTheKey) {
  for (const Family& family : families()) {
    const Json good = family.preset("tiny");
    for (const char* key :
         {"rope_theta", "rms_norm_eps", "routed_scaling_factor", "swiglu_limit"}) {
      if (!good.contains(key)) continue;
      for (const Json& value : {Json(0), Json(-1), Json("x"), Json(1e300), Json(true)}) {
        Json config = good;
        config[key] = value;
        EXPECT_NE(refusal(family, config).find(key), std::string::npos)
            << family.name << ": " << key << " = " << value;
      }
    }
  }
}

TEST(HostileConfig, RotationsThatGiveNoNumberAreRefused) {
  const Family& family = family_named("deepseek_v3");
  for (const char* key : {"factor", "beta_fast", "beta_slow", "original_max_position_embeddings"}) {
    for (const double value : {0.0, -1.0, 1e300}) {
      Json config = family.preset("tiny");
      config["rope_scaling"][key] = value;
      EXPECT_NE(refusal(family, config), "") << key << " = " << value;
    }
  }
  Json config = family.preset("tiny");
  config["rope_scaling"]["mscale"] = -1;
  EXPECT_NE(refusal(family, config), "");
  config = family.preset("tiny");
  config["rope_theta"] = 1;
  EXPECT_NE(refusal(family, config), "");
}

struct Contradiction {
  const char* family;
  Json changes;
  const char* key;
};

TEST(HostileConfig, ContradictionsAreRefusedWithTheKey) {
  const Contradiction cases[] = {
      {"qwen3_moe", {{"mlp_only_layers", {-1}}}, "mlp_only_layers"},
      {"qwen3_moe", {{"mlp_only_layers", {3}}}, "mlp_only_layers"},
      {"qwen2_moe", {{"mlp_only_layers", {int64_t{1} << 40}}}, "mlp_only_layers"},
      {"qwen3_moe", {{"num_experts_per_tok", 9}}, "num_experts_per_tok"},
      {"mixtral", {{"num_attention_heads", 3}, {"num_key_value_heads", 3}}, "num_attention_heads"},
      {"qwen3_moe", {{"num_key_value_heads", 3}}, "num_key_value_heads"},
      {"qwen3_moe", {{"layer_types", {"full_attention"}}}, "layer_types"},
      {"deepseek_v3", {{"n_group", 3}}, "n_group"},
      {"deepseek_v3", {{"topk_group", 5}}, "topk_group"},
      {"deepseek_v3", {{"first_k_dense_replace", 4}}, "first_k_dense_replace"},
      {"glm4_moe", {{"first_k_dense_replace", 1'000'000}}, "first_k_dense_replace"},
      {"olmoe", {{"clip_qkv", 0}}, "clip_qkv"},
      {"gpt_oss", {{"sliding_window", 0}}, "sliding_window"},
      // Each in its range, but not together.
      {"qwen3_moe", {{"num_hidden_layers", 4000}, {"num_experts", 60000}}, "num_hidden_layers"},
      {"qwen3_moe",
       {{"num_hidden_layers", 4000}, {"hidden_size", 16'000'000}, {"vocab_size", 16'000'000}},
       "hidden_size"},
  };
  for (const auto& [name, changes, key] : cases) {
    const Family& family = family_named(name);
    Json config = family.preset("tiny");
    config.update(changes);
    EXPECT_NE(refusal(family, config).find(key), std::string::npos)
        << name << ": " << changes << ": " << refusal(family, config);
  }
}

TEST(HostileConfig, PublishedModelsAreAccepted) {
  const std::filesystem::path golden = std::filesystem::path(SUTOR_TEST_DATA) / "golden";
  const Json published = parse_json(read_file(golden / "published_configs.json")).value;
  ASSERT_GE(published.size(), 15u);
  for (const Json& model : published) {
    const Json& config = model["config"];
    EXPECT_EQ(refusal(family_of(config), config), "") << model["name"];
  }
}

}  // namespace
}  // namespace sutor
