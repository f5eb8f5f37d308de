#include "launch/train/train_plan.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/log/run_paths.h"
#include "launch/train/planned_training.h"
#include "layers/lora/lora_params.h"

namespace sutor {
namespace {

Digest digest_of_names(const TrainableSet& trainable) {
  Hasher hasher;
  for (const std::string& name : trainable.names()) {
    hasher.update(name);
    hasher.update("\n");
  }
  return hasher.digest();
}

// The first line in which two texts differ.
std::string first_difference(const std::string& zero, const std::string& other, int rank) {
  std::istringstream a(zero), b(other);
  for (;;) {
    std::string left = "nothing more", right = left;
    const bool more_left = static_cast<bool>(std::getline(a, left));
    const bool more_right = static_cast<bool>(std::getline(b, right));
    if (!more_left) left = "nothing more";
    if (!more_right) right = "nothing more";
    if (left != right || (!more_left && !more_right)) {
      return fmt::format("rank 0 has `{}`, rank {} has `{}`", left, rank, right);
    }
  }
}

ExpertConfig read_config(const Recipe& recipe, const ModelInfo& model) {
  const std::filesystem::path path = recipe.esft.config ? std::filesystem::path(*recipe.esft.config)
                                                        : RunPaths(recipe.output).expert_config();
  if (!is_there(path)) {
    fail(ErrorCode::kNoExpertConfig,
         "no expert config: {} does not exist. Run `sutor score` and `sutor select` first (or "
         "`sutor "
         "run`, which does all), or set esft.config.",
         path.string());
  }
  // A config that select wrote here carries the model's own numbers already.
  const int layer_base = recipe.esft.config ? recipe.esft.layer_base : 0;
  return check_expert_config(read_expert_config(path), model, layer_base, path.string());
}

// `model`: with the pairs of method lora.
TrainableSet what_trains(const Recipe& recipe, const ModelInfo& model, const ExpertConfig& config) {
  const TrainablePatterns patterns{recipe.esft.also_train, recipe.esft.keep_frozen};
  if (recipe.train.method == "full") return full_trainable_set(model, patterns);
  if (recipe.train.method == "esft") return trainable_set(model, config, patterns);
  return lora_trainable_set(model);
}

}  // namespace

bool needs_expert_config(const Recipe& recipe) {
  const std::vector<std::string>& targets = recipe.lora.targets;
  return recipe.train.method == "esft" ||
         (recipe.train.method == "lora" &&
          std::find(targets.begin(), targets.end(), "experts") != targets.end());
}

TrainPlan make_train_plan(const Recipe& recipe, const ModelInfo& model) {
  return make_train_plan(recipe, model,
                         needs_expert_config(recipe) ? read_config(recipe, model) : ExpertConfig());
}

TrainPlan make_train_plan(const Recipe& recipe, const ModelInfo& model,
                          const ExpertConfig& config) {
  TrainPlan plan;
  plan.config = config;
  plan.model = recipe.train.method == "lora" ? with_lora(model, recipe.lora, plan.config) : model;
  plan.trainable = what_trains(recipe, plan.model, plan.config);
  plan.digest = digest_of_names(plan.trainable);
  return plan;
}

void check_same_plan(const TrainPlan& plan, const std::string& recipe_text, Comm& world) {
  std::string mine =
      recipe_text + fmt::format("backward down to layer {}\n", plan.trainable.lowest_layer());
  for (const std::string& name : plan.trainable.names()) mine += "trains " + name + "\n";
  const std::vector<std::string> digests =
      world.all_gather_text(xxh3(mine).text(), "compare plans");
  if (std::all_of(digests.begin(), digests.end(),
                  [&](const std::string& digest) { return digest == digests[0]; })) {
    return;
  }
  // All ranks know that they differ: now the plans themselves.
  const std::vector<std::string> plans = world.all_gather_text(mine, "different plans");
  std::string ranks, difference;
  for (int r = 0; r < world.size(); ++r) {
    if (plans[r] == plans[0]) continue;
    ranks += (ranks.empty() ? "" : ", ") + std::to_string(r);
    if (difference.empty()) difference = first_difference(plans[0], plans[r], r);
  }
  fail(ErrorCode::kPlansDiffer,
       "the plan of rank {} is not the plan of rank 0: they read another recipe, model or expert "
       "config. The first difference: {}. Give all nodes the same files.",
       ranks, difference);
}

void check_marked(const TrainableSet& planned, ParameterStore& store) {
  std::string mine;
  for (const FlatBuffer* buffer : store.buffers()) {
    for (size_t i = 0; i < buffer->size(); ++i) mine += buffer->name(i) + "\n";
  }
  Comm& world = store.parallel().world();
  std::set<std::string> marked;
  for (const std::string& list : world.all_gather_text(mine, "compare marked parameters")) {
    std::istringstream lines(list);
    for (std::string name; std::getline(lines, name);) marked.insert(name);
  }
  const auto refuse = [&](const std::string& name, const char* how) {
    fail(ErrorCode::kTwoTrainableSets,
         "{} parameters were marked to train, the plan has {}: `{}` is {}", marked.size(),
         planned.names().size(), name, how);
  };
  for (const std::string& name : planned.names()) {
    if (marked.count(name) == 0) refuse(name, "planned, but marked on no rank");
  }
  for (const std::string& name : marked) {
    if (!planned.contains(name)) refuse(name, "marked, but not planned");
  }
}

}  // namespace sutor
