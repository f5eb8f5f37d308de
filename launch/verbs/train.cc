// sutor train: trains what the expert config names, or everything (train.method: full).
#include <fmt/format.h>

#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/provenance.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/job.h"
#include "launch/stages/stages.h"
#include "recipes/recipe_reader.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "train", "Trains the experts that the expert config names (or everything), with checkpoints.",
    "sutor train RECIPE [--set key=value]... [--resume[=strict]] [--overwrite] [--profile]",
    "sutor train my.yaml --set optim.lr=1e-5\n"
    "mpiexec -n 4 sutor train my.yaml --set parallel.ep=4 --resume"};

}  // namespace

void run_train(const Recipe& recipe, Comm& world, const ResumeMode& mode,
               const nlohmann::json& provenance) {
  require_optimizer_dtype(recipe);  // before anything is deleted
  const RunPaths paths(recipe.output);
  set_threads(recipe.train.threads);
  if (!mode.resume && !mode.overwrite && paths.holds_training()) {
    fail(ErrorCode::kOutputExists,
         "{} holds another training (checkpoints or metrics). Add --resume to go on with it, "
         "--overwrite to delete it, or set another output.",
         recipe.output);
  }
  world.barrier("look at the output folder");
  if (mode.overwrite && world.rank() == 0) {
    for (const auto& path :
         {paths.checkpoints(), paths.metrics(), paths.evaluations(), paths.tensorboard()}) {
      std::filesystem::remove_all(path);
    }
  }
  world.barrier("clear the output folder");
  Trainer trainer(recipe, world, provenance);
  trainer.run(mode);
}

int verb_train(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  options.add_options()(
      "resume", po::value<std::string>()->implicit_value("newest"),
      "go on from the newest complete checkpoint; =strict: do not pass over bad ones")(
      "overwrite", po::bool_switch(), "delete the training in the output folder first");
  add_profile_option(options);
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    ResumeMode mode{.overwrite = (*values)["overwrite"].as<bool>()};
    if (values->count("resume")) {
      const std::string how = (*values)["resume"].as<std::string>();
      if (how != "newest" && how != "strict") {
        fail(ErrorCode::kBadArgument, "--resume takes nothing or =strict, found `{}`", how);
      }
      mode.resume = true;
      mode.strict = how == "strict";
      if (mode.overwrite) {
        fail(ErrorCode::kBadArgument, "--resume and --overwrite exclude each other");
      }
    }
    const Recipe recipe = recipe_from(*values);
    with_profile(*values, world,
                 [&] { run_train(recipe, world, mode, provenance("train", arguments)); });
    return kExitOk;
  });
}

}  // namespace sutor
