// Which metrics may decide which checkpoint is the best and when a training ends.
#include "recipes/eval_metrics.h"

#include <gtest/gtest.h>

#include "csrc/base/error.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

Recipe recipe_of(std::vector<std::string> sets) {
  sets.insert(sets.begin(), {"model.path=base", "output=out", "data.train=[{path: a.jsonl}]",
                             "data.eval=[{path: b.jsonl, name: task, scorer: \"exact,rouge_l\"}, "
                             "{path: c.jsonl, name: v1.2}]"});
  return recipe_of_sets(sets);
}

// "E0205 message"; empty: none.
std::string refusal(std::vector<std::string> sets) {
  try {
    recipe_of(std::move(sets));
    return "";
  } catch (const Error& error) {
    return fmt::format("{} {}", number_of(error.code()), error.what());
  }
}

TEST(EvalMetricsTest, EveryMetricOfEverySetAndItsScorersMayDecide) {
  for (const char* name : {"task.loss", "task.ppl", "task.token_acc", "task.exact_match",
                           "task.exact", "task.rouge_l", "v1.2.loss", "v1.2.exact_match"}) {
    EXPECT_EQ(refusal({std::string("eval.best=") + name}), "") << name;
    EXPECT_EQ(refusal({std::string("train.early_stop={metric: ") + name + "}"}), "") << name;
  }
}

TEST(EvalMetricsTest, OthersAreRefusedWithTheNamesThatThereAre) {
  for (const char* name : {"task", "task.bleu", "v1.2.rouge_l", "other.loss", "loss"}) {
    for (const char* key : {"eval.best=", "train.early_stop.metric="}) {
      const std::string found = refusal({std::string(key) + name});
      for (const char* word : {"205", "task.rouge_l", "v1.2.token_acc", name}) {
        EXPECT_NE(found.find(word), std::string::npos) << key << name << ": " << found;
      }
    }
  }
}

TEST(EvalMetricsTest, AnEarlyStopHasAMetricAndEvaluations) {
  EXPECT_NE(refusal({"train.early_stop.patience=2"}).find("206"), std::string::npos);
  const std::string found = refusal({"train.early_stop={metric: task.loss}", "eval.every=0"});
  EXPECT_NE(found.find("eval.every"), std::string::npos) << found;
  for (const char* wrong : {"train.early_stop={patience: 0, metric: task.loss}",
                            "train.early_stop={min_delta: -1, metric: task.loss}",
                            "train.early_stop=true", "train.early_stop={metrics: task.loss}"}) {
    EXPECT_NE(refusal({wrong}), "") << wrong;
  }
}

TEST(EvalMetricsTest, NullSwitchesItOffAndAResolvedRecipeReadsBack) {
  const Recipe off =
      recipe_of({"train.early_stop={metric: task.ppl, patience: 5}", "train.early_stop=null"});
  EXPECT_FALSE(off.early_stop.metric);
  EXPECT_NE(resolved_yaml(off).find("early_stop:"), std::string::npos);
  const Recipe on = recipe_of({"train.early_stop={metric: task.ppl, patience: 5, min_delta: 0.5}"});
  EXPECT_EQ(on.early_stop.metric, "task.ppl");
  EXPECT_EQ(on.early_stop.patience, 5);
  EXPECT_EQ(on.early_stop.min_delta, 0.5);
}

TEST(EvalMetricsTest, CompletionsAreNeededForADecidingScorerAlone) {
  const auto needs = [](std::vector<std::string> sets, size_t set) {
    const Recipe recipe = recipe_of(std::move(sets));
    return needs_completions(recipe, recipe.data.eval[set]);
  };
  EXPECT_FALSE(needs({}, 0));
  EXPECT_FALSE(needs({"eval.best=task.loss"}, 0));
  EXPECT_TRUE(needs({"eval.best=task.exact"}, 0));
  EXPECT_FALSE(needs({"eval.best=task.exact"}, 1));
  EXPECT_TRUE(needs({"train.early_stop={metric: task.rouge_l}"}, 0));
}

}  // namespace
}  // namespace sutor
