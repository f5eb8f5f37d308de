#include "launch/steps/train.h"

#include <fmt/format.h>

#include <filesystem>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/job/agreement.h"
#include "launch/job/job.h"
#include "launch/log/run_paths.h"
#include "launch/model/session.h"
#include "launch/preflight/preflight.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

// An earlier training in the output folder is gone on with, deleted, or in the way.
void require_place(const Recipe& recipe, const ResumeMode& mode) {
  if (mode.resume || mode.overwrite || !RunPaths(recipe.output).holds_training()) return;
  fail(ErrorCode::kOutputExists,
       "{} holds another training (checkpoints or metrics). Add --resume to go on with it, "
       "--overwrite to delete it, or set another output.",
       recipe.output);
}

void clear_output(const Recipe& recipe) {
  const RunPaths paths(recipe.output);
  for (const auto& path :
       {paths.checkpoints(), paths.metrics(), paths.evaluations(), paths.tensorboard()}) {
    remove_tree(path);
  }
}

}  // namespace

void run_train(const Recipe& recipe, const ModelSource& source, Comm& world, const ResumeMode& mode,
               const nlohmann::json& provenance) {
  // Before anything is deleted.
  require_optimizer_dtype(recipe);
  const SessionOptions session = session_options(recipe, world);
  set_threads(recipe.train.threads);
  on_rank_0(world, "look at the output folder", [&] { require_place(recipe, mode); });
  Trainer trainer(recipe, source, world, session, provenance);
  preflight(recipe, trainer.plan(), trainer.session_options(), trainer.last_step(), world);
  if (mode.check) {
    if (world.rank() == 0) fmt::print("check    the training can start; nothing was written\n");
    return;
  }
  if (mode.overwrite) on_rank_0(world, "clear the output folder", [&] { clear_output(recipe); });
  trainer.run(mode);
}

}  // namespace sutor
