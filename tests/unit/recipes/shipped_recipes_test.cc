// The recipes that are shipped, and what pages show of some, are what the reader accepts.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "recipes/recipe_reader.h"
#include "recipes/recipe_steps.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::TempDir;

const std::filesystem::path kRoot = std::filesystem::path(SUTOR_TEST_DATA).parent_path();

TEST(ShippedRecipes, AllAreAccepted) {
  int recipes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kRoot / "recipes")) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".yaml") || name.ends_with(".study.yaml")) continue;
    ++recipes;
    EXPECT_NO_THROW(require_train_data(read_recipe(entry.path()))) << entry.path();
  }
  EXPECT_GE(recipes, 3);
}

TEST(ShippedRecipes, TheControlDiffersFromTheTaskOnlyInItsSelection) {
  const std::filesystem::path folder = kRoot / "recipes" / "quickstart";
  const Recipe task = read_recipe(folder / "german.yaml");
  Recipe control = read_recipe(folder / "random.yaml");
  EXPECT_FALSE(control.eval.before_training);  // the same base model is measured once
  control.eval.before_training = task.eval.before_training;
  EXPECT_EQ(task.esft.select.method, "token");
  EXPECT_EQ(control.esft.select.method, "random");
  EXPECT_EQ(step_keys(task, RecipeStep::kTrain), step_keys(control, RecipeStep::kTrain));
  EXPECT_EQ(step_keys(task, RecipeStep::kScore), step_keys(control, RecipeStep::kScore));
}

TEST(ShippedRecipes, ThePartsThatPagesShowAreAccepted) {
  TempDir dir;
  dir.write("least.yaml",
            "model: {path: m}\noutput: o\n"
            "data: {train: [{path: t.jsonl}], eval: [{path: e.jsonl, name: task}]}\n");
  int parts = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kRoot / "docs")) {
    if (entry.path().extension() != ".md") continue;
    const std::string page = TempDir().read(entry.path());
    const std::string fence = "\n```yaml\n";
    for (size_t at = page.find(fence); at != std::string::npos; at = page.find(fence, at + 1)) {
      const size_t begin = at + fence.size(), end = page.find("```", begin);
      ASSERT_NE(end, std::string::npos) << entry.path();
      const auto recipe =
          dir.write("part.yaml", "base: least.yaml\n" + page.substr(begin, end - begin));
      EXPECT_NO_THROW(require_train_data(read_recipe(recipe))) << entry.path();
      ++parts;
    }
  }
  EXPECT_GE(parts, 3);
}

}  // namespace
}  // namespace sutor
