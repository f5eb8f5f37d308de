// Mixes and held-out rows in recipes: what is read, what it becomes, what is refused.
#include "recipes/data_sets.h"

#include <gtest/gtest.h>

#include "csrc/base/error.h"
#include "recipes/recipe_reader.h"
#include "recipes/recipe_steps.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::TempDir;

Recipe read(const std::string& data, const std::vector<std::string>& sets = {}) {
  TempDir dir;
  return read_recipe(dir.write("my.yaml", "model: {path: m}\noutput: out\ndata: {" + data + "}\n"),
                     sets);
}

std::string report(const std::string& data, const std::vector<std::string>& sets = {}) {
  try {
    read(data, sets);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), kExitUsage);
    return error.report();
  }
  return "";
}

void expect_words(const std::string& got, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    EXPECT_NE(got.find(word), std::string::npos) << word << " in: " << got;
  }
}

const std::string kTwo = "train: [{path: law.jsonl}, {path: b/chat.jsonl, format: text}]";

TEST(DataSets, WeightsAndEpochsOfAMix) {
  const Recipe recipe = read(
      "train: [{path: law.jsonl, weight: 2}, {path: chat.jsonl}, {path: names.jsonl, epochs: "
      "2.5}]");
  EXPECT_EQ(recipe.data.train[0].weight, 2);
  EXPECT_EQ(recipe.data.train[1].weight, 1) << "beside sets with weights";
  EXPECT_EQ(recipe.data.train[2].epochs, 2.5);
  EXPECT_FALSE(recipe.data.train[2].weight);
  EXPECT_TRUE(is_mixed(recipe.data.train));
  EXPECT_EQ(mix_text(recipe.data.train), "law weight 2, chat weight 1, names epochs 2.5");
  EXPECT_EQ(read(kTwo, {"data.train[1].epochs=3"}).data.train[1].epochs, 3);
  EXPECT_FALSE(is_mixed(read(kTwo).data.train));
}

TEST(DataSets, AMixThatSaysTwoThingsOrNothingIsRefused) {
  expect_words(report("train: [{path: law.jsonl, weight: 2, epochs: 3}, {path: b.jsonl}]"),
               {"my.yaml:3:", "E0205", "data.train[0].weight", "epochs as well"});
  expect_words(report("train: [{path: law.jsonl, weight: 2}, {path: b.jsonl, epochs: 3}]"),
               {"my.yaml:3:", "E0205", "`law` is the only one"});
  for (const char* value : {"0", "-1", "2e6", "much", "\"2\"", ".nan"}) {
    for (const char* key : {"weight", "epochs"}) {
      expect_words(report(fmt::format("train: [{{path: a.jsonl, {}: {}}}]", key, value)),
                   {"E0205", key, "above 0"});
    }
  }
  expect_words(report("train: [{path: a}], eval: [{path: b, weight: 2}]"), {"E0201", "weight"});
}

TEST(DataSets, AShareHoldsOutRowsOfEveryTrainingSet) {
  for (const char* eval :
       {"eval: 5%", "eval: 0.05", "eval: [{share: 5%}]", "eval: [{share: 0.05, name: held-out}]"}) {
    const Recipe recipe = read(kTwo + ", " + eval);
    ASSERT_EQ(recipe.data.eval.size(), 2u) << eval;
    const DataSource& first = recipe.data.eval[0];
    EXPECT_EQ(first.name, "law-held-out");
    EXPECT_EQ(first.path, "law.jsonl");
    EXPECT_EQ(first.held_out_of, "law");
    EXPECT_EQ(first.share, 0.05);
    EXPECT_EQ(recipe.data.eval[1].format, "text");
    EXPECT_EQ(recipe.data.train[0].share, 0.05);
    EXPECT_EQ(held_out_together(recipe), "held-out");
  }
  EXPECT_EQ(read(kTwo, {"data.eval=5%"}).data.eval.size(), 2u);
  const Recipe beside = read(kTwo + ", eval: [{path: other.jsonl}, {share: 1%, name: dev}]");
  ASSERT_EQ(beside.data.eval.size(), 3u);
  EXPECT_EQ(beside.data.eval[2].name, "chat-dev");
  EXPECT_EQ(held_out_together(read("train: [{path: law.jsonl}], eval: 5%")), "")
      << "one set needs no other name";
}

TEST(DataSets, AListInAnotherRecipeReplacesTheShareAndTheOtherWayRound) {
  const Recipe recipe = read(kTwo + ", eval: 5%", {"data.eval=[{path: c.jsonl}]"});
  ASSERT_EQ(recipe.data.eval.size(), 1u);
  EXPECT_EQ(recipe.data.eval[0].path, "c.jsonl");
  EXPECT_FALSE(recipe.data.train[0].share);
  EXPECT_EQ(read(kTwo + ", eval: [{path: c}]", {"data.eval=2%"}).data.eval[1].share, 0.02);
}

TEST(DataSets, AShareThatCannotBeIsRefused) {
  for (const char* share : {"0", "100%", "5", "-1%", "five", "\"5%\""}) {
    expect_words(report(kTwo + fmt::format(", eval: [{{share: {}}}]", share)),
                 {"E0205", "data.eval[0].share", "such as 5% or 0.05"});
  }
  expect_words(report(kTwo + ", eval: 150%"), {"my.yaml:3:", "E0205", "such as 5%"});
  expect_words(report("eval: 5%"), {"E0205", "no data.train"});
  expect_words(report("train: [{path: a.h5, format: store}], eval: 5%"),
               {"E0205", "token store", "`a`"});
  expect_words(report(kTwo + ", eval: [{share: 5%, path: c.jsonl}]"), {"E0205", "without path"});
  expect_words(report(kTwo + ", eval: [{share: 5%, scorer: exact}]"), {"E0205", "scorer"});
  expect_words(report(kTwo + ", eval: [{share: 5%}, {share: 2%, name: x}]"),
               {"E0205", "held out already"});
  expect_words(report("train: [{path: a}, {path: a-held-out}], eval: 5%"),
               {"E0205", "two data sets are called `a-held-out`"});
  expect_words(report("train: 5%"), {"E0205", "`data.train` is a list"});
}

TEST(DataSets, TheBestCheckpointMayBeThatOfAllHeldOutRows) {
  EXPECT_EQ(report(kTwo + ", eval: 5%", {"eval.best=held-out.loss"}), "");
  EXPECT_EQ(report(kTwo + ", eval: 5%", {"eval.best=law-held-out.loss"}), "");
  expect_words(report(kTwo + ", eval: 5%", {"eval.best=held.loss"}), {"E0205", "held-out.loss"});
}

TEST(DataSets, TheResolvedRecipeReadsBackToTheSameSets) {
  for (const std::string& data :
       {kTwo + ", eval: [{path: c.jsonl}, {share: 5%, name: dev}, {path: d.jsonl}]",
        std::string("train: [{path: a, weight: 0.3}, {path: b, weight: 3}], eval: 12.5%"),
        std::string("train: [{path: a, epochs: 0.25}], eval: []")}) {
    const Recipe recipe = read(data);
    TempDir dir;
    const Recipe again = read_recipe(dir.write("resolved.yaml", resolved_yaml(recipe)));
    for (const RecipeStep step : {RecipeStep::kPrepare, RecipeStep::kScore, RecipeStep::kTrain}) {
      EXPECT_EQ(step_keys(recipe, step), step_keys(again, step));
    }
    ASSERT_EQ(recipe.data.eval.size(), again.data.eval.size());
    for (size_t i = 0; i < recipe.data.eval.size(); ++i) {
      EXPECT_EQ(recipe.data.eval[i].name, again.data.eval[i].name);
      EXPECT_EQ(recipe.data.eval[i].path, again.data.eval[i].path);
    }
  }
}

// Checkpoints of earlier programs hold this text and are compared with it.
TEST(DataSets, WithoutWeightsAndSharesTheKeysOfATrainingAreThoseOfEarlierPrograms) {
  const Recipe recipe = read(kTwo + ", eval: [{path: c.jsonl}]");
  const std::string lines = "data.train: law auto\ndata.train: chat text\ndata.eval: c auto\n";
  EXPECT_TRUE(step_keys(recipe, RecipeStep::kTrain).ends_with(lines));
  EXPECT_TRUE(step_keys(recipe, RecipeStep::kPrepare).ends_with(lines));
  const Recipe mixed = read(kTwo + ", eval: [{path: c.jsonl}]", {"data.train[0].weight=2"});
  EXPECT_TRUE(step_keys(mixed, RecipeStep::kTrain)
                  .ends_with("data.train: law auto weight 2\ndata.train: chat text weight 1\n"
                             "data.eval: c auto\n"));
  EXPECT_TRUE(step_keys(mixed, RecipeStep::kPrepare).ends_with(lines)) << "tokens stay valid";
}

}  // namespace
}  // namespace sutor
