// The recipe that `init` writes reads back, to the values that were chosen.
#include "launch/start/recipe_text.h"

#include <gtest/gtest.h>

#include <sstream>

#include "recipes/key_meanings.h"
#include "recipes/recipe_reader.h"
#include "recipes/recipe_schema.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

const RecipeParts kParts{.model = "models/my model: 7",
                         .output = "runs/my",
                         .train = {"data/a.jsonl", "more/a.jsonl", "with blank/*.jsonl"},
                         .eval = {"data/b.jsonl"},
                         .made_by = "sutor init",
                         .facts = "Rows: 3\n"};

ChosenValues some_values() {
  ChosenValues chosen;
  chosen.values = {{"data.seq_len", "512"},
                   {"optim.lr", "2e-05"},
                   {"schedule.warmup", "5%"},
                   {"train.method", "lora"},
                   {"eval.every", "7"}};
  chosen.reasons = {{"data.seq_len", "the longest has 500 tokens"}};
  chosen.warnings = {"few rows"};
  return chosen;
}

Recipe read(const std::string& text) {
  testing::TempDir dir;
  return read_recipe(dir.write("my.yaml", text));
}

TEST(RecipeText, ReadsBackToWhatWasChosen) {
  const Recipe recipe = read(recipe_text(kParts, some_values()));
  EXPECT_EQ(recipe.model.path, kParts.model);
  EXPECT_EQ(recipe.output, "runs/my");
  EXPECT_EQ(recipe.data.seq_len, 512);
  EXPECT_DOUBLE_EQ(recipe.optim.lr, 2e-5);
  EXPECT_EQ(recipe.schedule.warmup, "5%");
  EXPECT_EQ(recipe.train.method, "lora");
  ASSERT_EQ(recipe.data.train.size(), 3u);
  EXPECT_EQ(recipe.data.train[0].name, "a");
  EXPECT_EQ(recipe.data.train[1].name, "a-2");
  EXPECT_EQ(recipe.data.train[2].path, "with blank/*.jsonl");
  EXPECT_EQ(recipe.data.eval[0].name, "b");
}

TEST(RecipeText, RowsAreHeldOutWhereNoEvaluationSetIsNamed) {
  RecipeParts parts = kParts;
  parts.eval.clear();
  ChosenValues chosen = some_values();
  chosen.share = 0.05;
  EXPECT_EQ(read(recipe_text(parts, chosen)).data.eval.size(), 3u);  // of each training set
  chosen.share = 0;
  EXPECT_TRUE(read(recipe_text(parts, chosen)).data.eval.empty());
}

TEST(RecipeText, EveryKeyStandsThereWithItsMeaning) {
  const std::string text = recipe_text(kParts, some_values());
  for (const Field& field : recipe_fields()) {
    const std::string name = field.key.substr(field.key.rfind('.') + 1) + ": ";
    const std::string meaning(find_meaning(field.key)->meaning);
    std::istringstream lines(text);
    bool found = false;
    for (std::string line; std::getline(lines, line);) {
      found |= line.find(name) != std::string::npos && line.ends_with(meaning);
    }
    EXPECT_TRUE(found) << field.key;
  }
  EXPECT_NE(text.find("  # the longest has 500 tokens\n  seq_len: 512"), std::string::npos) << text;
  EXPECT_NE(text.find("# Mind: few rows"), std::string::npos);
}

// Comments become keys when their `# ` is taken away: a recipe of all keys at their defaults.
TEST(RecipeText, CommentedKeysAreThoseOfTheSchemaAtTheirDefaults) {
  std::istringstream lines(recipe_text(kParts, some_values()));
  std::string all;
  bool in_head = true;
  for (std::string line; std::getline(lines, line);) {
    in_head = in_head && line.starts_with("#");
    if (in_head) continue;
    const size_t code = line.find_first_not_of("# ");
    const bool is_key =
        line.starts_with("# ") && code != std::string::npos && line.find(':') != std::string::npos;
    all += (is_key ? line.substr(2) : line) + "\n";
  }
  Recipe recipe = read(all), defaults;
  int compared = 0;
  const ChosenValues chosen = some_values();
  for (const Field& field : recipe_fields()) {
    if (chosen.values.count(field.key) || field.key == "model.path" || field.key == "output")
      continue;
    EXPECT_EQ(field.show(recipe), field.show(defaults)) << field.key;
    ++compared;
  }
  EXPECT_GE(compared, 70);
}

}  // namespace
}  // namespace sutor
