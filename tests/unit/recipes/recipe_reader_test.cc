// Recipes: values and units, strictness, inheritance, --set, and the resolved form.
#include "recipes/recipe_reader.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

#include "csrc/base/error.h"
#include "recipes/recipe_steps.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::TempDir;

constexpr const char* kLeast = "model: {path: m}\noutput: out\n";

Recipe read(const std::string& text, const std::vector<std::string>& sets = {}) {
  TempDir dir;
  return read_recipe(dir.write("my.yaml", text), sets);
}

// The report of the error that reading throws, with the directory cut off; "" without an error.
std::string report(const std::string& text, const std::vector<std::string>& sets = {}) {
  TempDir dir;
  try {
    read_recipe(dir.write("my.yaml", text), sets);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), kExitUsage);
    std::string result = error.report();
    const std::string folder = dir.path().string() + "/";
    for (size_t at; (at = result.find(folder)) != std::string::npos;)
      result.erase(at, folder.size());
    return result;
  }
  return "";
}

void expect_report(const std::string& text, const std::string& start,
                   const std::vector<std::string>& sets = {}) {
  const std::string got = report(text, sets);
  EXPECT_EQ(got.substr(0, start.size()), start) << "whole report: " << got;
}

TEST(RecipeReader, KeepsDefaultsWhereNothingIsWritten) {
  const Recipe recipe = read(kLeast);
  EXPECT_EQ(recipe.model.dtype, "bf16");
  EXPECT_EQ(recipe.data.seq_len, 4096);
  EXPECT_EQ(recipe.optim.beta2, 0.95);
  EXPECT_FALSE(recipe.esft.select.top_p);
  EXPECT_FALSE(recipe.esft.select.layers);
}

TEST(RecipeReader, ReadsEveryTypeOfValue) {
  const Recipe recipe = read(R"(
model: {path: "/models/a b", dtype: fp32}
data:
  train: [{path: rows.jsonl, format: text, name: mine}, {path: more.v2.jsonl}]
  eval:
    - path: held/task.jsonl
  seq_len: 4k
  packing: false
  too_long: split
esft:
  score: {tokens: -1}
  select: {method: budget, budget: 0.05, layers: [3, 1]}
  keep_frozen: ["*.gate.weight"]
optim: {lr: 2e-4, betas: [0.8, 0.99]}
schedule: {warmup: 3%, min_lr: 10%, steps: 20, epochs: 0.5}
train: {seed: 18446744073709551615, threads: 2}
eval: {best: task.loss}
output: out
)");
  EXPECT_EQ(recipe.model.path, "/models/a b");
  ASSERT_EQ(recipe.data.train.size(), 2u);
  EXPECT_EQ(recipe.data.train[0].name, "mine");
  EXPECT_EQ(recipe.data.train[1].name, "more.v2");
  EXPECT_EQ(recipe.data.eval[0].name, "task");
  EXPECT_EQ(recipe.data.seq_len, 4096);
  EXPECT_FALSE(recipe.data.packing);
  EXPECT_EQ(recipe.esft.score.tokens, -1);
  EXPECT_EQ(recipe.esft.select.budget, 0.05);
  EXPECT_EQ(recipe.esft.select.layers, (std::vector<int>{3, 1}));
  EXPECT_EQ(recipe.esft.keep_frozen, (std::vector<std::string>{"*.gate.weight"}));
  EXPECT_EQ(recipe.optim.beta1, 0.8);
  EXPECT_EQ(recipe.schedule.warmup, "3%");
  EXPECT_EQ(recipe.schedule.steps, 20);
  EXPECT_EQ(recipe.train.seed, 18446744073709551615u);
  EXPECT_EQ(recipe.train.threads, "2");
}

TEST(RecipeReader, TheBooleansAreThoseOfYaml12) {
  for (const char* word : {"true", "True", "TRUE"}) {
    const std::string text = kLeast + std::string("data: {packing: ") + word + "}\n";
    EXPECT_TRUE(read(text, {std::string("log.tensorboard=") + word}).data.packing) << word;
    const std::string choice = std::string("parallel.sequence_parallel=") + word;
    EXPECT_EQ(read(text, {choice}).parallel.sequence_parallel, "true") << word;
  }
  for (const char* word : {"false", "False", "FALSE"}) {
    const std::string text = kLeast + std::string("data: {packing: ") + word + "}\n";
    const Recipe recipe = read(text, {std::string("log.tensorboard=") + word});
    EXPECT_FALSE(recipe.data.packing) << word;
    EXPECT_FALSE(recipe.log.tensorboard) << word;
  }
  // Texts in YAML 1.2, booleans in 1.1; and numbers, quotes and mixed cases.
  for (const char* word : {"yes", "no", "Yes", "on", "off", "ON", "y", "n", "1", "0", "\"true\"",
                           "'True'", "tRUE", "[true]"}) {
    expect_report(kLeast + std::string("data: {packing: ") + word + "}\n",
                  "my.yaml:3:17: error[E0205]: `data.packing`: expected true, false or authors");
  }
}

TEST(RecipeReader, NamesUnknownKeysWithPlaceAndNearestKey) {
  expect_report(
      "model: {path: m}\nesft:\n  select:\n    topp: 0.2\noutput: o\n",
      "my.yaml:4:5: error[E0201]: unknown key `esft.select.topp` (did you mean `top_p`?)");
  expect_report("lr: 1e-5\n",
                "my.yaml:1:1: error[E0201]: unknown key `lr` (`lr` belongs to `optim`: "
                "write `optim.lr`)");
  expect_report(
      "train: {warmup: 3}\n",
      "my.yaml:1:9: error[E0201]: unknown key `train.warmup` (`warmup` belongs to `schedule`");
  expect_report("data: {train: [{file: a}]}\n",
                "my.yaml:1:17: error[E0201]: unknown key `data.train[0].file`");
  expect_report("modle: {path: m}\n",
                "my.yaml:1:1: error[E0201]: unknown key `modle` (did you mean `model`?)");
  expect_report(kLeast,
                "error[E0201]: --set train.stepz: unknown key `train.stepz` (did you mean "
                "`schedule.steps`?)",
                {"train.stepz=3"});
}

TEST(RecipeReader, RefusesKeysWrittenTwice) {
  expect_report(
      "optim:\n  lr: 1\n  lr: 2\n",
      "my.yaml:3:3: error[E0207]: key `optim.lr` is written twice (first at my.yaml:2:3)");
  expect_report("output: a\noutput: b\n", "my.yaml:2:1: error[E0207]");
}

TEST(RecipeReader, SaysExpectedAndGotForWrongValues) {
  expect_report(
      "optim: {lr: fast}\n",
      "my.yaml:1:13: error[E0205]: `optim.lr`: expected a number above 0, got the text `fast`");
  expect_report("optim: {lr: \"1e-4\"}\n",
                "my.yaml:1:13: error[E0205]: `optim.lr`: expected a number");
  expect_report("train: {micro_batch: 0}\n",
                "my.yaml:1:22: error[E0205]: `train.micro_batch`: expected a whole number of at "
                "least 1, got `0`");
  expect_report("train: {micro_batch: 1.5}\n", "my.yaml:1:22: error[E0205]");
  expect_report("schedule: {name: cos}\n",
                "my.yaml:1:18: error[E0205]: `schedule.name`: expected one of "
                "constant, linear, cosine, got the text `cos`");
  expect_report("data: {packing: yes}\n",
                "my.yaml:1:17: error[E0205]: `data.packing`: expected true, false or authors");
  expect_report("optim: 3\n",
                "my.yaml:1:8: error[E0205]: `optim` is a section with the keys name, lr");
  expect_report("data: {train: rows.jsonl}\n",
                "my.yaml:1:15: error[E0205]: `data.train` is a list");
  expect_report("optim: {betas: [0.9]}\n", "my.yaml:1:16: error[E0205]");
  expect_report("optim: {betas: [0.9, 1]}\n", "my.yaml:1:16: error[E0205]");
  expect_report("schedule: {warmup: 101%}\n", "my.yaml:1:20: error[E0205]");
  expect_report("optim: {lr: .nan}\n", "my.yaml:1:13: error[E0205]");
  expect_report("output: {a: b}\n",
                "my.yaml:1:9: error[E0205]: `output` is a value, got a mapping");
  expect_report("output:\n", "my.yaml:1:1: error[E0205]: `output`: expected text, got nothing");
  expect_report(kLeast + std::string("parallel: {order: tp-ep}\n"),
                "my.yaml:3:19: error[E0205]: `parallel.order`");
  expect_report(kLeast + std::string("eval: {best: a.loss}\n"),
                "my.yaml:3:14: error[E0205]: `eval.best`");
}

TEST(RecipeReader, RefusesARateThatWouldRiseToTheEnd) {
  EXPECT_EQ(report(kLeast, {"optim.lr=1e-4", "schedule.min_lr=1e-4"}), "");
  const std::string got = report(kLeast, {"optim.lr=1e-4", "schedule.min_lr=2e-4"});
  for (const char* word : {"--set schedule.min_lr", "E0205", "at most optim.lr", "0.0001"}) {
    EXPECT_NE(got.find(word), std::string::npos) << got;
  }
}

TEST(RecipeReader, RefusesKeysOfThingsThatItDoesNotHave) {
  for (const char* set : {"train.z_loss=0", "checkpoint.on_signal=[]", "export.dtype=same_as_base",
                          "data.train=[{path: a, share: 5%}]"}) {
    const std::string got = report(kLeast, {set});
    EXPECT_NE(got.find("E0201"), std::string::npos) << set << ": " << got;
    EXPECT_NE(got.find("unknown key"), std::string::npos) << set << ": " << got;
  }
}

TEST(RecipeReader, TakesAProjectOfWeightsAndBiasesOrNone) {
  const std::string with = kLeast + std::string("log: {wandb: {project: mine, tags: [a]}}\n");
  EXPECT_FALSE(read(kLeast, {}).log.wandb.project);
  EXPECT_FALSE(read(kLeast + std::string("log: {wandb: null}\n"), {}).log.wandb.project);
  const Recipe recipe = read(with, {"log.wandb.mode=offline"});
  EXPECT_EQ(recipe.log.wandb.project, "mine");
  EXPECT_EQ(recipe.log.wandb.mode, "offline");
  EXPECT_EQ(recipe.log.wandb.tags, std::vector<std::string>{"a"});
  EXPECT_FALSE(read(with, {"log.wandb=null"}).log.wandb.project);
  EXPECT_NE(report(kLeast, {"log.wandb.mode=offline"}).find("E0206"), std::string::npos);
  EXPECT_NE(report(with, {"log.wandb.mode=disabled"}).find("E0205"), std::string::npos);
}

TEST(RecipeReader, TakesEveryAxisOfRanks) {
  const Recipe recipe =
      read(kLeast, {"parallel.tp=2", "parallel.cp=3", "parallel.pp=4", "parallel.ep=8",
                    "parallel.etp=5", "parallel.order=cp-tp-ep-dp-pp", "parallel.stages=[1,2,3,4]",
                    "parallel.sequence_parallel=false", "parallel.dispatcher=allgather",
                    "parallel.expert_placement=balanced", "parallel.frozen_replicas=2"});
  const ParallelOptions& p = recipe.parallel;
  EXPECT_EQ((std::vector{p.tp, p.cp, p.pp, p.ep, p.etp}), (std::vector{2, 3, 4, 8, 5}));
  EXPECT_EQ(p.order, "cp-tp-ep-dp-pp");
  EXPECT_EQ(p.stages, "1,2,3,4");
  EXPECT_EQ(p.sequence_parallel, "false");
  EXPECT_EQ(p.dispatcher, "allgather");
  EXPECT_EQ(p.expert_placement, "balanced");
  EXPECT_EQ(p.frozen_replicas, 2);
  for (const char* wrong : {"parallel.tp=0", "parallel.cp=-1", "parallel.sequence_parallel=yes",
                            "parallel.dispatcher=deepep", "parallel.expert_placement=random"}) {
    EXPECT_NE(report(kLeast, {wrong}).find("E0205"), std::string::npos) << wrong;
  }
}

TEST(RecipeReader, StagesAreEvenAutoOrATable) {
  for (const auto& [written, kept] :
       std::vector<std::pair<std::string, std::string>>{{"even", "even"},
                                                        {"auto", "auto"},
                                                        {"[14, 13]", "14,13"},
                                                        {"14,13", "14,13"},
                                                        {"\"14,13\"", "14,13"},
                                                        {"27", "27"},
                                                        {"[27]", "27"}}) {
    const Recipe recipe = read(kLeast, {"parallel.stages=" + written});
    EXPECT_EQ(recipe.parallel.stages, kept) << written;
    EXPECT_EQ(read(resolved_yaml(recipe)).parallel.stages, kept) << written;
  }
  for (const char* wrong : {"evenly", "[]", "[14, 0]", "14,,13", "14,", "[14, x]", "{a: 1}"}) {
    const std::string got = report(kLeast, {std::string("parallel.stages=") + wrong});
    EXPECT_NE(got.find("E0205"), std::string::npos) << wrong << ": " << got;
  }
  EXPECT_NE(report(kLeast, {"parallel.stages=14,-1"})
                .find("expected even, auto, or the layers of each stage, such as [14, 13]"),
            std::string::npos);
}

TEST(RecipeReader, WantsRequiredKeys) {
  expect_report("output: o\n", "error[E0206]: my.yaml: `model.path` is required");
  expect_report("model: {path: m}\n", "error[E0206]: my.yaml: `output` is required");
  expect_report(kLeast + std::string("data: {eval: [{name: a}]}\n"),
                "my.yaml:3:22: error[E0206]: `data.eval[0].path` is required");
  expect_report(kLeast, "error[E0206]", {"esft.select.method=top_n"});
  EXPECT_THROW(require_train_data(read(kLeast)), Error);
}

TEST(RecipeReader, ListsTheOptimizersThatThereAre) {
  expect_report("optim: {name: lion}\n",
                "my.yaml:1:15: error[E0205]: `optim.name`: expected one of adamw, adamw_bf16");
  EXPECT_EQ(read(kLeast, {"optim.name=adamw_bf16"}).optim.name, "adamw_bf16");
}

TEST(RecipeReader, AnOptimizerThatKeepsBf16AloneIsRefusedForAnotherModelDtype) {
  EXPECT_NO_THROW(require_optimizer_dtype(read(kLeast, {"model.dtype=fp32"})));
  EXPECT_NO_THROW(require_optimizer_dtype(read(kLeast, {"optim.name=adamw_bf16"})));
  try {
    require_optimizer_dtype(read(kLeast, {"optim.name=adamw_bf16", "model.dtype=fp32"}));
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNoOptimizerForDType);
    EXPECT_NE(std::string(error.what()).find("`adamw_bf16` trains weights of bf16 alone"),
              std::string::npos)
        << error.what();
  }
}

TEST(RecipeReader, RefusesDataSetsOfOneName) {
  expect_report(
      kLeast + std::string("data: {train: [{path: a/x.jsonl}], eval: [{path: b/x.jsonl}]}\n"),
      "my.yaml:3:50: error[E0205]: two data sets are called `x`");
}

TEST(RecipeReader, AppliesSetsOverTheFile) {
  const std::string text =
      kLeast + std::string("data: {train: [{path: a.jsonl}, {path: b.jsonl}]}\n");
  const Recipe recipe = read(text, {"optim.lr=1e-3", "esft.select={method: gate, top_p: 0.1}",
                                    "data.train[1].path=c.jsonl", "esft.also_train=[x, y]"});
  EXPECT_EQ(recipe.optim.lr, 1e-3);
  EXPECT_EQ(recipe.esft.select.method, "gate");
  EXPECT_EQ(recipe.data.train[1].path, "c.jsonl");
  EXPECT_EQ(recipe.esft.also_train.size(), 2u);
  EXPECT_EQ(recipe.origins.at("optim.lr"), "--set optim.lr");
  const Recipe replaced = read(text, {"data.train=[{path: z.jsonl}]"});
  ASSERT_EQ(replaced.data.train.size(), 1u);
  EXPECT_EQ(replaced.data.train[0].path, "z.jsonl");
  expect_report(text, "error[E0205]: --set optim.lr: expected key=value", {"optim.lr"});
  expect_report(text, "error[E0205]: --set data.train[5].path: `data.train[5]` has no item 4",
                {"data.train[5].path=x"});
}

TEST(RecipeReader, InheritsFromABaseAndRefusesCircles) {
  TempDir dir;
  dir.write(
      "shared/base.yaml",
      "model: {path: m, dtype: fp32}\noptim: {lr: 1}\ndata: {train: [{path: a}, {path: b}]}\n");
  const auto file = dir.write(
      "my.yaml", "optim: {lr: 2}\noutput: o\nbase: shared/base.yaml\ndata: {train: [{path: c}]}\n");
  const Recipe recipe = read_recipe(file);
  EXPECT_EQ(recipe.model.dtype, "fp32");
  EXPECT_EQ(recipe.optim.lr, 2);
  ASSERT_EQ(recipe.data.train.size(), 1u);
  EXPECT_EQ(recipe.data.train[0].path, "c");
  EXPECT_NE(recipe.origins.at("model.dtype").find("base.yaml:1:25"), std::string::npos);

  dir.write("shared/base.yaml", "base: ../my.yaml\n");
  testing::expect_error(ErrorCode::kCircularBase, {"my.yaml -> base.yaml -> my.yaml"},
                        [&] { read_recipe(file); });
}

TEST(RecipeReader, ReplacesEnvironmentVariables) {
  setenv("SUTOR_TEST_ROOT", "/data/x", 1);
  EXPECT_EQ(read("model: {path: \"${SUTOR_TEST_ROOT}/m\"}\noutput: o\n").model.path, "/data/x/m");
  unsetenv("SUTOR_TEST_ROOT");
  expect_report("model: {path: \"${SUTOR_TEST_ROOT}/m\"}\n",
                "my.yaml:1:15: error[E0209]: the environment variable SUTOR_TEST_ROOT");
}

TEST(RecipeReader, GivesVariablesThatAreNotSetTheirDefault) {
  const char* recipe =
      "model: {path: \"${SUTOR_TEST_ROOT:-/else}/m\"}\noutput: \"${SUTOR_X:-}o\"\n";
  unsetenv("SUTOR_TEST_ROOT");
  EXPECT_EQ(read(recipe).model.path, "/else/m");
  EXPECT_EQ(read(recipe).output, "o");
  setenv("SUTOR_TEST_ROOT", "", 1);
  EXPECT_EQ(read(recipe).model.path, "/else/m");
  setenv("SUTOR_TEST_ROOT", "/data", 1);
  EXPECT_EQ(read(recipe).model.path, "/data/m");
  unsetenv("SUTOR_TEST_ROOT");
}

TEST(RecipeReader, KnowsTheHomeFolderInPaths) {
  const char* home = std::getenv("HOME");
  const std::string before = home ? home : "";
  setenv("HOME", "/home/me", 1);
  const Recipe recipe =
      read("model: {path: ~/m}\noutput: ~/o\ndata: {train: [{path: ~/rows.jsonl, name: a~/b}]}\n",
           {"data.train[0].name=a"});
  EXPECT_EQ(recipe.model.path, "/home/me/m");
  EXPECT_EQ(recipe.output, "/home/me/o");
  EXPECT_EQ(recipe.data.train[0].path, "/home/me/rows.jsonl");
  EXPECT_EQ(read("model: {path: a/~/m}\noutput: o\n").model.path, "a/~/m");
  setenv("HOME", before.c_str(), 1);
}

TEST(RecipeReader, TakesSharesAsPercentages) {
  const Recipe recipe =
      read(kLeast, {"esft.select.top_p=20%", "esft.select.budget=5%", "esft.select.method=budget"});
  EXPECT_DOUBLE_EQ(*recipe.esft.select.top_p, 0.2);
  EXPECT_DOUBLE_EQ(*recipe.esft.select.budget, 0.05);
  for (const char* value : {"120%", "0%", "'20%'", "1e400%"}) {
    expect_report(std::string(kLeast) + "esft: {select: {top_p: " + value + "}}\n",
                  "my.yaml:3:24: error[E0205]: `esft.select.top_p`: expected a number above 0 and "
                  "at most 1 (as 0.2 or 20%), or auto");
  }
}

TEST(RecipeReader, PointsAtSyntaxErrors) {
  expect_report("model: {path: m\noutput: o\n", "my.yaml:");
  expect_report("- a\n", "my.yaml:1:1: error[E0203]");
  EXPECT_THROW(read_recipe("/no/such/recipe.yaml"), Error);
}

TEST(RecipeReader, ResolvedFormReadsBackToTheSameRecipe) {
  TempDir dir;
  const Recipe recipe = read(R"(
model: {path: "a b: c"}
data: {train: [{path: x.jsonl}], eval: [{path: "y, z.jsonl", name: y}]}
esft: {select: {method: random, n: 4, layers: [1]}, config: null, also_train: ["*.gate.weight"]}
schedule: {warmup: 3%, min_lr: 10%}
eval: {best: y.loss}
output: "true"
)",
                             {"train.seed=7"});
  const std::string text = resolved_yaml(recipe);
  EXPECT_NE(text.find("seed: 7"), std::string::npos);
  EXPECT_NE(text.find("# --set train.seed"), std::string::npos);
  EXPECT_NE(text.find("# default"), std::string::npos);
  const Recipe again = read_recipe(dir.write("resolved.yaml", text));
  const auto uncommented = [](const std::string& yaml) {
    std::string result;
    for (size_t begin = 0, end; begin < yaml.size(); begin = end + 1) {
      end = yaml.find('\n', begin);
      const std::string line = yaml.substr(begin, end - begin);
      result += line.substr(0, line.find("  #")) + "\n";
    }
    return result;
  };
  EXPECT_EQ(uncommented(resolved_yaml(again)), uncommented(text));
  EXPECT_EQ(again.model.path, "a b: c");
  EXPECT_EQ(again.output, "true");
}

TEST(RecipeReader, StepKeysChangeOnlyWithWhatTheStepReads) {
  const std::string text = kLeast + std::string("data: {train: [{path: a.jsonl}]}\n");
  const auto differs = [&](RecipeStep step, const std::string& set) {
    return step_keys(read(text), step) != step_keys(read(text, {set}), step);
  };
  EXPECT_TRUE(differs(RecipeStep::kTrain, "optim.lr=1"));
  EXPECT_FALSE(differs(RecipeStep::kScore, "optim.lr=1"));
  EXPECT_FALSE(differs(RecipeStep::kTrain, "train.threads=2"));
  EXPECT_FALSE(differs(RecipeStep::kTrain, "parallel.ep=2"));
  EXPECT_FALSE(differs(RecipeStep::kTrain, "log.every=9"));
  EXPECT_TRUE(differs(RecipeStep::kSelect, "esft.select.top_p=0.3"));
  EXPECT_FALSE(differs(RecipeStep::kPrepare, "esft.select.top_p=0.3"));
  EXPECT_TRUE(differs(RecipeStep::kPrepare, "data.loss_on=all"));
  EXPECT_TRUE(differs(RecipeStep::kScore, "data.seq_len=8"));
  EXPECT_TRUE(differs(RecipeStep::kExport, "export.format=[adapter]"));
}

// Checkpoints of earlier programs do not have these keys.
TEST(RecipeReader, StepKeysHaveNewerKeysOnlyWhereTheyChangeSomething) {
  const std::string text = kLeast + std::string("data: {train: [{path: a.jsonl}]}\n");
  const auto keys = [&](const std::vector<std::string>& sets) {
    return step_keys(read(text, sets), RecipeStep::kTrain);
  };
  EXPECT_EQ(keys({"train.balance_over=batch"}), keys({}));
  EXPECT_EQ(keys({}).find("balance_over"), std::string::npos);
  EXPECT_EQ(keys({}).find("truncation_side"), std::string::npos);
  EXPECT_NE(keys({"train.balance_loss=1"}).find("train.balance_over: auto\n"), std::string::npos);
  EXPECT_NE(keys({"data.truncation_side=left"}).find("data.truncation_side: left\n"),
            std::string::npos);
  EXPECT_NE(keys({}).find("\ndata.packing: true\n"), std::string::npos);
  EXPECT_NE(keys({"data.packing=authors"}).find("\ndata.packing: authors\n"), std::string::npos);
}

TEST(RecipeReader, PackingOfTheAuthorsCanBeTakenBack) {
  EXPECT_TRUE(read(kLeast, {"data.packing=authors"}).data.authors_packs);
  EXPECT_TRUE(read(kLeast, {"data.packing=authors"}).data.packing);
  const Recipe none =
      read(kLeast + std::string("data: {packing: authors}\n"), {"data.packing=false"});
  EXPECT_FALSE(none.data.authors_packs);
  EXPECT_FALSE(none.data.packing);
}

TEST(RecipeReader, ParsesWarmupAndMinLr) {
  EXPECT_EQ(parse_warmup("30", 600), 30);
  EXPECT_EQ(parse_warmup("3%", 600), 18);
  EXPECT_EQ(parse_warmup("7%", 100), 7);
  EXPECT_EQ(parse_warmup("3%", 10), 1);
  EXPECT_DOUBLE_EQ(parse_min_lr("10%", 4e-3), 4e-4);
  EXPECT_EQ(parse_min_lr("1e-6", 1), 1e-6);
  EXPECT_THROW(parse_warmup("x", 1), Error);
}

TEST(RecipeReader, RefusesYamlWithoutEnd) {
  const auto refused = [](const std::string& text, const std::string& words) {
    const std::string got = report(text);
    EXPECT_NE(got.find("error[E0203]"), std::string::npos) << got;
    EXPECT_NE(got.find(words), std::string::npos) << got;
  };
  refused(",", "");
  refused(std::string(kLeast) + "---\na: b\n", "a second YAML document");
  refused("esft: {also_train: &a [x, *a]}\n", "an alias of what it stands in");
  refused(std::string(100000, '['), "");
  refused("a: " + std::string(40, '[') + std::string(40, ']'), "nested deeper");
  refused("output: " + std::string(70000, 'x'), "a text of 70000 bytes");
  refused(std::string(2 << 20, '#'), "2097152 bytes");
  refused("output: caf\xe9\n", "line 1 is not text in UTF-8");
  refused(std::string("output: a\0b\n", 12), "byte 0x00");
  std::string aliases = "a: &a b\nc: [";
  for (int i = 0; i < 2000; ++i) aliases += "*a,";
  refused(aliases + "]\n", "1,000 aliases");
  std::string many = "a: [";
  for (int i = 0; i < 60000; ++i) many += "0,";
  refused(many + "]\n", "50,000 values");
}

TEST(RecipeReader, AliasesOfAliasesAreRefusedAtOnce) {
  std::string bomb = "&a0 [x,x,x,x,x,x,x,x,x,x]";
  for (int i = 1; i < 20; ++i) {
    std::string next = "&a" + std::to_string(i) + " [" + bomb;
    for (int j = 0; j < 9; ++j) next += ",*a" + std::to_string(i - 1);
    bomb = next + "]";
  }
  EXPECT_NE(report(std::string(kLeast) + "lora: {targets: " + bomb + "}\n"), "");
}

TEST(RecipeReader, LongTextsAreNoDeepRecursion) {
  const std::string name(60000, 'a');
  expect_report(std::string(kLeast) + "data: {train: [{path: a, name: " + name + "}]}\n",
                "my.yaml:3:32: error[E0205]: `data.train[0].name`");
  expect_report(kLeast, "error[E0209]", {"output=${" + name + "}"});
  EXPECT_EQ(read(kLeast, {"output=${" + name}).output, "${" + name);
  std::string variables;
  for (int i = 0; i < 20000; ++i) variables += "${}";
  expect_report(kLeast, "error[E0209]", {"output=" + variables});
  ::setenv("SUTOR_TEST_LONG", std::string(50000, 'x').c_str(), 1);
  expect_report(kLeast, "error[E0205]: --set output: with its variables replaced",
                {"output=${SUTOR_TEST_LONG}${SUTOR_TEST_LONG}"});
  ::unsetenv("SUTOR_TEST_LONG");
  expect_report(kLeast, "error[E0201]", {name + "=1"});
  expect_report(kLeast, "error[E0201]", {"data.train[0]." + name + "=1"});
}

TEST(RecipeReader, BasesOfStrangeNamesAndLongChainsAreE0203) {
  expect_report("base: " + std::string(5000, 'b') + "\n", "my.yaml:1:7: error[E0203]: base recipe");
  expect_report("base: /dev/zero\n",
                "my.yaml:1:7: error[E0203]: base recipe /dev/zero is a device");
  TempDir dir;
  for (int i = 0; i < 40; ++i) {
    dir.write(std::to_string(i) + ".yaml", "base: " + std::to_string(i + 1) + ".yaml\n");
  }
  testing::expect_error(ErrorCode::kUnreadableRecipe, {"more than 32 recipes"},
                        [&] { read_recipe(dir / "0.yaml"); });
}

TEST(RecipeReader, NamesASetAfterItsFileGlobOrFolder) {
  for (const auto& [path, name] :
       std::vector<std::pair<std::string, std::string>>{{"data/rows.jsonl", "rows"},
                                                        {"a.b.jsonl", "a.b"},
                                                        {"rows.jsonl.gz", "rows"},
                                                        {"rows.csv.zst", "rows"},
                                                        {"data/train-*.parquet", "train"},
                                                        {"data/part-[0-9]?.jsonl", "part"},
                                                        {"my_rows/*.jsonl", "my_rows"},
                                                        {"my_rows/", "my_rows"},
                                                        {"my_rows/*/*.json.gz", "my_rows"},
                                                        {"/data/my_rows", "my_rows"}}) {
    EXPECT_EQ(default_set_name(path), name) << path;
    EXPECT_EQ(read(std::string(kLeast) + "data: {train: [{path: \"" + path + "\"}]}\n")
                  .data.train[0]
                  .name,
              name);
  }
}

TEST(RecipeReader, ReadsColumnsAndWritesThemBack) {
  const std::string text = std::string(kLeast) +
                           "data: {train: [{path: a.jsonl, format: sharegpt, columns: {messages: "
                           "my dialog, images: null}}, {path: b.jsonl}]}\n";
  const Recipe recipe = read(text);
  const RowColumns expected = {{"messages", "my dialog"}, {"images", std::nullopt}};
  EXPECT_EQ(recipe.data.train[0].columns, expected);
  EXPECT_TRUE(recipe.data.train[1].columns.empty());
  const std::string resolved = resolved_yaml(recipe);
  EXPECT_EQ(read(resolved).data.train[0].columns, expected) << resolved;
  EXPECT_EQ(read(text, {"data.train[1].columns={text: content}"}).data.train[1].columns,
            (RowColumns{{"text", "content"}}));
  expect_report(std::string(kLeast) + "data: {train: [{path: a.jsonl, columns: {mesages: x}}]}\n",
                "my.yaml:3:41: error[E0205]: `data.train[0].columns`: expected a mapping like");
  expect_report(std::string(kLeast) + "data: {train: [{path: a.jsonl, columns: [x]}]}\n",
                "my.yaml:3:41: error[E0205]: `data.train[0].columns`: expected a mapping like");
}

}  // namespace
}  // namespace sutor
