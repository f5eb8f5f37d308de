#include "launch/steps/training_basis.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "checkpoint/format/manifest.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "csrc/base/error.h"
#include "launch/log/run_paths.h"
#include "launch/train/same_training.h"
#include "layers/esft/score_records.h"
#include "layers/esft/select_experts.h"
#include "recipes/recipe_steps.h"

namespace sutor {
namespace {

void add_stale(std::vector<std::string>& all, RecipeStep step, const StageCheck& check) {
  if (check.standing != Standing::kStale) return;
  for (const std::string& reason : check.reasons) {
    all.push_back(fmt::format("{}: {}", name_of(step), reason));
  }
}

// What these keys choose from the scores that there are; nothing when they choose nothing.
std::string selection_now(const Recipe& recipe) {
  try {
    const ScoreTable scores = read_score_table(RunPaths(recipe.output).scores());
    return to_json(select_experts(recipe.esft.select, scores).config);
  } catch (const Error&) {
    return "";  // said when it is made
  }
}

}  // namespace

void refuse_other_basis(const Recipe& recipe, const std::string& base_digest, bool selects,
                        StageChecks& checks) {
  const NewestCheckpoint newest = newest_valid_checkpoint(RunPaths(recipe.output).checkpoints(),
                                                          false, {}, CheckDepth::kStructure);
  const std::string where = newest.entry->path.string();
  const TrainState saved = train_state_from(newest.state, where);
  TrainState now = saved;  // its data are compared below, by what they were made from
  now.schedule = step_keys(recipe, RecipeStep::kTrain);
  check_same_training(saved, now, where, /*print=*/false);

  std::vector<std::string> other;
  add_stale(other, RecipeStep::kPrepare, checks.tokens(/*train=*/true, /*eval=*/true));
  const CheckpointMeta meta = read_manifest(newest.entry->path).meta;
  if (selects) {
    add_stale(other, RecipeStep::kScore, checks.scores());
    // A selection by other keys that `select` left since is no other basis: made again by the
    // recipe, it is the one of the training.
    if (selection_now(recipe) != to_json(parse_expert_config(meta.expert_config, where))) {
      add_stale(other, RecipeStep::kSelect, checks.expert_config());
    }
  }
  const std::string& base = meta.base_digest;
  if (base != base_digest) {
    other.push_back(fmt::format("train: the base model was {}, is {}", base, base_digest));
  }
  if (other.empty()) return;
  fail(ErrorCode::kOtherInputs,
       "{} holds a training ({}) of other inputs than the recipe names now; nothing was "
       "replaced:\n  {}\nGo back to what it was made from to go on with it (what `prepare` or "
       "`score` alone left since, make again with the same verb); begin anew with --overwrite; or "
       "set another output.",
       recipe.output, newest.entry->path.filename().string(), fmt::join(other, "\n  "));
}

}  // namespace sutor
