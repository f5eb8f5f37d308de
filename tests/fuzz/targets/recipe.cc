// A recipe.
#include "recipes/recipe_reader.h"
#include "recipes/recipe_steps.h"
#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) {
  const Recipe recipe = read_recipe(input_file(bytes, "recipe.yaml"));
  resolved_yaml(recipe);
  step_keys(recipe, RecipeStep::kTrain);
}

std::vector<std::string> seeds() {
  return {R"(model: {path: /models/m, dtype: bf16, adapters: [intent/]}
data:
  train: [{path: train.jsonl}]
  eval: [{path: held_out.jsonl, name: task, scorer: intent}]
  seq_len: 4k
  too_long: split
parallel: {ep: 2, stages: [14, 13]}
esft:
  score: {tokens: -1}
  select: {method: top_n, n: 2, layers: [1, 2]}
optim: {lr: 1e-5, betas: [0.9, 0.95]}
schedule: {name: cosine, epochs: 1.5, warmup: 3%, min_lr: 10%}
eval: {best: task.loss}
output: runs/my
)",
          "model: {path: &m a}\ndata: {train: [{path: a}]}\nesft: {config: *m}\noutput: \"x\"\n"};
}

}  // namespace

const FuzzTarget kRecipe{"recipe", read, seeds};

}  // namespace sutor::fuzz
