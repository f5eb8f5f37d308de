#include "recipes/recipe_steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "csrc/base/error.h"
#include "recipes/recipe_schema.h"
#include "recipes/recipe_values.h"

namespace sutor {

std::string_view name_of(RecipeStep step) {
  switch (step) {
    case RecipeStep::kPrepare:
      return "prepare";
    case RecipeStep::kScore:
      return "score";
    case RecipeStep::kSelect:
      return "select";
    case RecipeStep::kTrain:
      return "train";
    case RecipeStep::kExport:
      return "export";
  }
  SUTOR_ASSERT(false);
}

namespace {

// Keys that checkpoints of earlier programs do not have: left out where they leave everything as it
// was, so that such a training can go on.
bool is_without_effect(const std::string& key, const Recipe& recipe) {
  if (key == "train.balance_over") return recipe.train.balance_loss == 0;
  if (key.starts_with("train.early_stop.")) return !recipe.early_stop.metric;
  if (key == "data.truncation_side") return recipe.data.truncation_side == "right";
  return false;
}

}  // namespace

std::string step_keys(const Recipe& given, RecipeStep step) {
  static const std::map<RecipeStep, std::vector<std::string>> prefixes = {
      {RecipeStep::kPrepare, {"data.tokenizer", "data.template", "data.loss_on"}},
      {RecipeStep::kScore,
       {"model.dtype", "data.seq_len", "data.packing", "data.too_long", "data.truncation_side",
        "esft.score."}},
      {RecipeStep::kSelect, {"esft.select.", "esft.layer_base"}},
      {RecipeStep::kTrain,
       {"model.dtype", "data.seq_len", "data.packing", "data.too_long", "data.truncation_side",
        "esft.layer_base", "esft.also_train", "esft.keep_frozen", "lora.", "optim.", "schedule.",
        "train.", "eval."}},
      {RecipeStep::kExport, {"export."}}};
  Recipe recipe = given;
  // Checkpoints hold this text and are compared with it, so that its words stay as they are.
  std::string text = fmt::format("stage: {}\n", name_of(step));
  for (const Field& field : recipe_fields()) {
    const auto covers = [&](const std::string& prefix) { return field.key.starts_with(prefix); };
    const auto& of_step = prefixes.at(step);
    // Neither decides the numbers of a training.
    const bool of_machine = field.key == "train.threads" || field.key == "train.recompute";
    if (of_machine || !std::any_of(of_step.begin(), of_step.end(), covers)) {
      continue;
    }
    if (is_without_effect(field.key, recipe)) continue;
    text += fmt::format("{}: {}\n", field.key, field.show(recipe));
  }
  if (step == RecipeStep::kSelect || step == RecipeStep::kExport) return text;
  for (const char* list : {"train", "eval"}) {
    if (step == RecipeStep::kScore && std::string_view(list) == "eval") continue;
    for (const DataSource& source : *list == 't' ? recipe.data.train : recipe.data.eval) {
      text += fmt::format("data.{}: {} {}", list, quoted(source.name), source.format);
      if (source.share) text += fmt::format(" share {}", *source.share);
      if (step != RecipeStep::kPrepare && source.weight) {
        text += fmt::format(" weight {}", *source.weight);
      } else if (step != RecipeStep::kPrepare && source.epochs.value_or(1) != 1) {
        text += fmt::format(" epochs {}", *source.epochs);
      }
      text += "\n";
    }
  }
  return text;
}

}  // namespace sutor
