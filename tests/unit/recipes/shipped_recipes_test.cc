// The recipes that are shipped, and the example of README.md, are what the reader accepts.
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

TEST(ShippedRecipes, TheReadmesExampleIsAccepted) {
  const std::string readme = TempDir().read(kRoot / "README.md");
  const size_t begin = readme.find("```yaml\n");
  ASSERT_NE(begin, std::string::npos);
  const size_t end = readme.find("```", begin + 8);
  ASSERT_NE(end, std::string::npos);
  TempDir dir;
  const auto recipe = dir.write("my.yaml", readme.substr(begin + 8, end - begin - 8));
  EXPECT_NO_THROW(require_train_data(read_recipe(recipe)));
}

}  // namespace
}  // namespace sutor
