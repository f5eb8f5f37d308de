// What the model's config.json decides is said, with the defaults of docs/config_keys.md, and
// every value of a recipe has its origin.
#include "launch/start/config_view.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <regex>

#include "layers/models/registry.h"
#include "recipes/recipe_reader.h"
#include "recipes/recipe_schema.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using nlohmann::json;

std::map<std::string, ModelValue> values_of(const json& config, const Recipe& recipe = {}) {
  std::map<std::string, ModelValue> found;
  for (const ModelValue& value : model_values(config, recipe)) found[value.key] = value;
  return found;
}

json preset(const char* family) { return family_named(family).preset("tiny"); }

TEST(ModelValues, AuxiliaryLossesAreNamedWithWhatTheRunDoes) {
  json config = preset("qwen3_moe");
  config["router_aux_loss_coef"] = 0.9;
  ModelValue loss = values_of(config).at("router_aux_loss_coef");
  EXPECT_EQ(loss.value, "0.9");
  EXPECT_EQ(loss.origin, "config.json");
  EXPECT_NE(loss.effect.find("no load-balance loss is added (train.balance_loss: 0)"),
            std::string::npos);
  Recipe recipe;
  recipe.train.balance_loss = 0.25;
  loss = values_of(config, recipe).at("router_aux_loss_coef");
  EXPECT_NE(loss.effect.find("train.balance_loss: 0.25 counts"), std::string::npos);
}

TEST(ModelValues, SeqLenBeyondTheContextIsSaid) {
  json config = preset("mixtral");
  config["max_position_embeddings"] = 4096;
  Recipe recipe;
  recipe.data.seq_len = 4096;
  EXPECT_NE(values_of(config, recipe).at("max_position_embeddings").effect.find("within it"),
            std::string::npos);
  recipe.data.seq_len = 4097;
  EXPECT_NE(values_of(config, recipe).at("max_position_embeddings").effect.find("BEYOND it"),
            std::string::npos);
}

// "false; true in glm4_moe, deepseek_v3" -> the default of a family.
std::string documented(const std::string& key, std::string family) {
  if (family == "kimi_k2") family = "deepseek_v3";
  std::ifstream page(std::filesystem::path(SUTOR_TEST_DATA).parent_path() / "docs/config_keys.md");
  for (std::string line; std::getline(page, line);) {
    if (line.find("`" + key + "`") == std::string::npos || !line.starts_with("|")) continue;
    std::vector<std::string> cells;
    for (size_t at = 1; at < line.size();) {
      const size_t end = line.find('|', at);
      cells.push_back(line.substr(at, end - at));
      at = end == std::string::npos ? line.size() : end + 1;
    }
    // "1, 1; 8, 4 in deepseek_v3" of two keys in one row
    const bool second =
        line.find("`" + key + "`") > line.find("`, `") && line.find("`, `") < line.find('|', 1);
    std::string value;
    std::stringstream parts(cells.at(2));
    for (std::string part; std::getline(parts, part, ';');) {
      const size_t in = part.find(" in ");
      if (in == std::string::npos || part.find(family, in) != std::string::npos) {
        value = part.substr(0, in);
      }
    }
    if (cells.at(0).find("`, `") != std::string::npos && value.find(',') != std::string::npos) {
      value = second ? value.substr(value.find(',') + 1) : value.substr(0, value.find(','));
    }
    return std::regex_replace(value, std::regex("\\s+"), "");
  }
  return "no row";
}

TEST(ModelValues, DefaultsAreTheDocumentedOnes) {
  int compared = 0;
  for (const Family& family : families()) {
    json config = family.preset("tiny");
    for (const char* key :
         {"norm_topk_prob", "routed_scaling_factor", "n_group", "topk_group", "topk_method"}) {
      if (family.name == "deepseek_v2" && std::string_view(key).find("group") < 7) continue;
      json without = config;
      if (std::string_view(key) == "n_group" || std::string_view(key) == "topk_group") {
        if (family.name == "deepseek_v2") continue;
        without["n_routed_experts"] = 64;  // 8 groups divide them
        without["num_experts_per_tok"] = 8;
        without.erase("n_group");
        without.erase("topk_group");
      }
      without.erase(key);
      const auto values = values_of(without);
      const auto found = values.find(key);
      if (found == values.end() ||
          found->second.origin != "default of " + std::string(family.name)) {
        continue;
      }
      const std::string expected = documented(key, std::string(family.name));
      const std::string value = json::parse(found->second.value).is_string()
                                    ? json::parse(found->second.value).get<std::string>()
                                    : found->second.value;
      EXPECT_EQ(value, expected) << family.name << " " << key;
      ++compared;
    }
  }
  EXPECT_GE(compared, 15);
}

TEST(ModelValues, ModelsThatCannotBeTrainedAreRefused) {
  testing::expect_error(ErrorCode::kUnknownFamily, {"llama"}, [] {
    model_values({{"model_type", "llama"}}, {});
  });
}

class ConfigView : public ::testing::Test {
 protected:
  ConfigView() {
    dir_.write("model/config.json", preset("deepseek_v2").dump());
    path_ = dir_.write("my.yaml", "model: {path: " + (dir_ / "model").string() +
                                      "}\noptim: {lr: 1e-3}\noutput: out\ndata:\n  train: [{path: "
                                      "rows.jsonl}]\n  eval: 5%\n");
  }
  testing::TempDir dir_;
  std::filesystem::path path_;
};

TEST_F(ConfigView, SaysTheOriginOfEveryValue) {
  const nlohmann::ordered_json all = config_json(read_recipe(path_, {"train.seed=7"}));
  std::map<std::string, nlohmann::ordered_json> values;
  for (const auto& value : all["values"]) values[value["key"].get<std::string>()] = value;
  EXPECT_EQ(values.at("optim.lr")["value"], 1e-3);
  EXPECT_TRUE(values.at("optim.lr")["origin"].get<std::string>().ends_with("my.yaml:2:13"));
  EXPECT_EQ(values.at("train.seed")["origin"], "--set train.seed");
  EXPECT_EQ(values.at("train.micro_batch")["origin"], "default");
  EXPECT_EQ(values.at("data.train[0].path")["value"], "rows.jsonl");
  EXPECT_EQ(values.at("data.eval[0].share")["value"], 0.05);
  EXPECT_EQ(values.at("eval.metrics")["value"].size(), 3u);
  for (const Field& field : recipe_fields()) EXPECT_TRUE(values.count(field.key)) << field.key;
  EXPECT_EQ(all["model"]["family"], "deepseek_v2");
  EXPECT_FALSE(all["model"]["values"].empty());
}

TEST_F(ConfigView, ReadsBackToTheSameRecipe) {
  const Recipe recipe = read_recipe(path_);
  const Recipe again = read_recipe(dir_.write("again.yaml", config_text(recipe)));
  Recipe a = recipe, b = again;
  for (const Field& field : recipe_fields()) EXPECT_EQ(field.show(a), field.show(b)) << field.key;
  EXPECT_NE(config_text(recipe).find("# What config.json of"), std::string::npos);
}

TEST_F(ConfigView, SaysWhyTheModelIsNotLookedAt) {
  const Recipe recipe = read_recipe(path_, {"model.path=nowhere"});
  EXPECT_NE(config_text(recipe).find("# E0300: "), std::string::npos) << config_text(recipe);
  EXPECT_TRUE(config_json(recipe)["model"].contains("problem"));
}

}  // namespace
}  // namespace sutor
