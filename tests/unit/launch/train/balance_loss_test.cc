// Of what the load-balance loss is a mean: the recipe, else the model's config, decides.
#include "launch/train/losses/balance_loss.h"

#include <gtest/gtest.h>

namespace sutor {
namespace {

TEST(BalanceLossTest, IsOverWhatTheConfigSaysUnlessTheRecipeDoes) {
  const nlohmann::json yes = {{"model_type", "deepseek_v2"}, {"seq_aux", true}};
  const nlohmann::json no = {{"model_type", "deepseek_v2"}, {"seq_aux", false}};
  const nlohmann::json silent = {{"model_type", "deepseek_v3"}};
  const nlohmann::json null = {{"model_type", "deepseek_v3"}, {"seq_aux", nullptr}};
  const nlohmann::json other = {{"model_type", "qwen3_moe"}};
  const nlohmann::json other_yes = {{"model_type", "glm4_moe"}, {"seq_aux", true}};
  const auto over = [](const nlohmann::json& config, const char* wanted = "auto") {
    Recipe recipe;
    recipe.train.balance_over = wanted;
    return balance_over(recipe, config);
  };
  for (const auto& config : {yes, silent, null, other_yes}) {
    EXPECT_EQ(over(config), BalanceOver::kSequences) << config;
    EXPECT_EQ(over(config, "batch"), BalanceOver::kBatch) << config;
  }
  for (const auto& config : {no, other}) {
    EXPECT_EQ(over(config), BalanceOver::kBatch) << config;
    EXPECT_EQ(over(config, "sequences"), BalanceOver::kSequences) << config;
  }
}

TEST(BalanceLossTest, IsNamedWithItsWeightAndTheReason) {
  Recipe recipe;
  recipe.train.balance_loss = 0.01;
  EXPECT_EQ(balance_text(recipe, {{"seq_aux", true}}),
            "0.01 x the load-balance loss, a mean over sequences (seq_aux: true of config.json)");
  EXPECT_EQ(balance_text(recipe, {{"model_type", "mixtral"}}),
            "0.01 x the load-balance loss, over the global batch (config.json has no seq_aux)");
  recipe.train.balance_over = "sequences";
  EXPECT_EQ(balance_text(recipe, {{"model_type", "mixtral"}}),
            "0.01 x the load-balance loss, a mean over sequences (train.balance_over)");
}

}  // namespace
}  // namespace sutor
