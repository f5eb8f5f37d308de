#include "launch/steps/train.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/partial/checkpoint_list.h"
#include "csrc/base/error.h"
#include "csrc/ops/device/memory.h"
#include "launch/checkpoints/fork.h"
#include "launch/job/agreement.h"
#include "launch/job/job.h"
#include "launch/log/run_contents.h"
#include "launch/log/run_paths.h"
#include "launch/model/session.h"
#include "launch/output/replaced_training.h"
#include "launch/plan/run_plan.h"
#include "launch/preflight/preflight.h"
#include "launch/python/wandb_run.h"
#include "launch/steps/step_ledger.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

// An earlier training in the output folder is gone on with, replaced, or in the way.
void check_output(const Recipe& recipe, const ResumeMode& mode) {
  const RunPaths paths(recipe.output);
  if (mode.resume) return;
  require_own_training(paths);
  if (!mode.overwrite && paths.holds_training()) {
    const bool saved = !step_directories(paths.checkpoints()).empty();
    fail(ErrorCode::kOutputExists,
         "{} holds {}. Add --resume to {}, --overwrite to replace it, or set another output.",
         recipe.output,
         saved ? "another training" : "a training that was stopped before its first checkpoint",
         saved ? "go on with it" : "begin it again");
  }
}

// The checkpoint that the training begins from; null: none.
nlohmann::json find_fork(const Recipe& recipe, Comm& world, const ResumeMode& mode,
                         const std::string& from) {
  return nlohmann::json::parse(from_rank_0(world, "look for the parent of a fork", [&] {
    return fork_to_begin(RunPaths(recipe.output), from, mode.resume).dump();
  }));
}

// The plan of this training, by rank 0, which alone sets it beside the measurement. Without
// weights, so that it costs a moment; a training is not lost for it.
PlannedRun plan_of(const Recipe& recipe, const ModelSource& source, const Trainer& trainer,
                   Comm& world) {
  PlannedRun planned;
  if (world.rank() != 0) return planned;
  try {
    planned = planned_run(make_run_plan({.recipe = recipe,
                                         .config = source.directory.config(),
                                         .family = source.family,
                                         .model = source.info,
                                         .world = world.size(),
                                         .threads = at::get_num_threads(),
                                         .gpu = trainer.session_options().device.is_cuda(),
                                         .print = false}));
  } catch (const std::exception& error) {
    fmt::print(stderr, "note: no plan of this training: {}\n", error.what());
  }
  ops::reset_peak();
  return planned;
}

}  // namespace

void run_train(const Recipe& recipe, const ModelSource& source, Comm& world, const ResumeMode& mode,
               const nlohmann::json& provenance, const std::string& from) {
  require_optimizer_dtype(recipe);
  const SessionOptions session = session_options(recipe, world);
  set_threads(recipe.train.threads);
  on_rank_0(world, "look at the output folder", [&] {
    check_output(recipe, mode);
    check_wandb(recipe);
  });
  const nlohmann::json fork = find_fork(recipe, world, mode, from);
  std::optional<ReplacedTraining> replaced;  // of rank 0; ends after the trainer
  Trainer trainer(recipe, source, world, session, provenance);
  preflight(recipe, trainer.plan(), trainer.session_options(), trainer.last_step(), world);
  if (!fork.is_null()) {
    const std::string base = base_digest(source, world).text();
    on_rank_0(world, "look at the parent of the fork", [&] {
      check_parent(fork, base, trainer.plan().digest.text(), trainer.state().lora);
    });
  }
  if (mode.check) {
    if (world.rank() == 0) fmt::print("check    the training can start; nothing was written\n");
    return;
  }
  trainer.compare_with(plan_of(recipe, source, trainer, world));
  trainer.load();
  // Recipe, data, layout, disk, memory and model are good.
  on_rank_0(world, "make room for the training", [&] {
    const RunPaths paths(recipe.output);
    // Whatever is there from now on, it is not what `run` once finished.
    StepLedger(paths.step_ledger()).started(RecipeStep::kTrain);
    if (mode.overwrite) replaced.emplace(paths);
  });
  ResumeMode watched = mode;
  watched.fork = fork;
  watched.published = [&] {
    if (replaced) replaced->remove();
  };
  trainer.run(watched);
}

}  // namespace sutor
