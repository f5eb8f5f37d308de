// What an unknown key is answered with: other trainers' names, slips of the pen.
#include "recipes/key_suggestion.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "recipes/recipe_schema.h"

namespace sutor {
namespace {

TEST(KeySuggestion, EveryKeyOfOtherTrainersLeadsToAKeyOrSaysWhatToDo) {
  std::set<std::string_view> names;
  for (const ForeignKey& key : foreign_keys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name << " is there twice";
    EXPECT_FALSE(key.ours.empty() && key.note.empty()) << key.name;
    EXPECT_EQ(find_field(key.name), nullptr) << key.name << " is a key of ours";
    for (const char c : key.name) {
      EXPECT_TRUE((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_') << key.name;
    }
    if (key.ours.empty()) continue;
    EXPECT_TRUE(find_field(key.ours) != nullptr || is_source_list(key.ours)) << key.ours;
  }
  EXPECT_GE(names.size(), 150u);
}

TEST(KeySuggestion, NamesOfOtherTrainersAreKnownWhereverTheyStandAndHoweverTheyAreWritten) {
  for (const char* name : {"learning_rate", "optim.learning_rate", "learning-rate",
                           "--learning-rate", "learningRate", "train.learning_rate"}) {
    EXPECT_NE(suggestion(name).find("is `optim.lr` here"), std::string::npos)
        << name << ": " << suggestion(name);
  }
  EXPECT_EQ(suggestion("warmup_ratio"),
            "`warmup_ratio` of other trainers is `schedule.warmup` here: steps, or a share such as "
            "3%");
  EXPECT_NE(suggestion("lora_dropout").find("has no key here: sutor does not do it"),
            std::string::npos);
}

TEST(KeySuggestion, OurOwnKeysComeFirst) {
  EXPECT_EQ(suggestion("lr"), "`lr` belongs to `optim`: write `optim.lr`");
  EXPECT_EQ(suggestion("weight_decay"),
            "`weight_decay` belongs to `optim`: write `optim.weight_decay`");
  EXPECT_EQ(suggestion("esft.select.topp"), "did you mean `top_p`?");
  EXPECT_EQ(suggestion("train.stepz"), "did you mean `schedule.steps`?");
}

TEST(KeySuggestion, SlipsOfThePenAreCalledByTheirName) {
  EXPECT_NE(suggestion("optim.5e-2").find("a decimal point is `.`"), std::string::npos);
  EXPECT_NE(suggestion("optim.5.5").find("a decimal point is `.`"), std::string::npos);
  EXPECT_NE(suggestion("optim.lr:1.5").find("write `lr: 1.5`"), std::string::npos);
  EXPECT_NE(suggestion("<<").find("base: other.yaml"), std::string::npos);
  EXPECT_NE(suggestion("esft.scores.tokens").find("`esft` has the keys"), std::string::npos);
}

}  // namespace
}  // namespace sutor
