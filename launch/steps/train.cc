#include "launch/steps/train.h"

#include <filesystem>

#include "checkpoint/partial/checkpoint_list.h"
#include "csrc/base/error.h"
#include "launch/job/agreement.h"
#include "launch/job/job.h"
#include "launch/log/run_paths.h"
#include "launch/model/session.h"
#include "launch/steps/step_ledger.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

// An earlier training in the output folder is gone on with, deleted, or in the way.
void clear_output(const Recipe& recipe, const ResumeMode& mode) {
  const RunPaths paths(recipe.output);
  if (!mode.resume && !mode.overwrite && paths.holds_training()) {
    const bool saved = !step_directories(paths.checkpoints()).empty();
    fail(ErrorCode::kOutputExists,
         "{} holds {}. Add --resume to {}, --overwrite to delete it, or set another output.",
         recipe.output,
         saved ? "another training" : "a training that was stopped before its first checkpoint",
         saved ? "go on with it" : "begin it again");
  }
  // Whatever is there from now on, it is not what `run` once finished.
  StepLedger(paths.step_ledger()).started(RecipeStep::kTrain);
  if (!mode.overwrite) return;
  for (const auto& path :
       {paths.checkpoints(), paths.metrics(), paths.evaluations(), paths.tensorboard()}) {
    std::filesystem::remove_all(path);
  }
}

}  // namespace

void run_train(const Recipe& recipe, const ModelSource& source, Comm& world, const ResumeMode& mode,
               const nlohmann::json& provenance) {
  // Before anything is deleted.
  require_optimizer_dtype(recipe);
  const SessionOptions session = session_options(recipe, world);
  set_threads(recipe.train.threads);
  on_rank_0(world, "clear the output folder", [&] { clear_output(recipe, mode); });
  Trainer trainer(recipe, source, world, session, provenance);
  trainer.run(mode);
}

}  // namespace sutor
