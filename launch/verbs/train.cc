// sutor train: trains what the expert config names, or everything (train.method: full).
#include "launch/steps/train.h"

#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/provenance.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/agreement.h"
#include "launch/job/job.h"
#include "launch/model/session.h"
#include "launch/output/output_lock.h"
#include "launch/report/report_page.h"
#include "launch/steps/stage_checks.h"
#include "launch/train/train_plan.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "train", "Trains the experts that the expert config names (or everything), with checkpoints.",
    "sutor train RECIPE [--set key=value]... [--resume[=strict]] [--overwrite] "
    "[--from CHECKPOINT] [--check] [--profile]",
    "sutor train my.yaml --set optim.lr=1e-5\n"
    "mpiexec -n 4 sutor train my.yaml --set parallel.ep=4 --resume"};

// What the training would be made of: tokens, and the selection, of this recipe and its inputs now.
void check_stages_before(const Recipe& recipe, const ModelSource& source, Comm& world) {
  const bool selected = needs_expert_config(recipe) && !recipe.esft.config;
  const std::string base = selected ? base_digest(source, world).text() : "";
  on_rank_0(world, "check what the stages before made", [&] {
    StageChecks checks(recipe, base);
    require_tokens(checks, recipe, /*train=*/true, /*eval=*/true);
    if (selected) require_expert_config(checks, recipe);
  });
}

}  // namespace

int verb_train(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  options.add_options()(
      "resume", po::value<std::string>()->implicit_value("newest"),
      "go on from the newest complete checkpoint; =strict: do not pass over bad ones")(
      "overwrite", po::bool_switch(),
      "replace the training in the output folder; it is deleted when the new one has a "
      "checkpoint")(
      "from", po::value<std::string>(),
      "a step directory of another run: begin from its weights (and its moments, with "
      "the same optimizer), at step 0, with the keys of this recipe")(
      "check", po::bool_switch(),
      "only look whether it can start: recipe, model, data, layout, disk and memory");
  add_device_option(options);
  add_profile_option(options);
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    ResumeMode mode{.overwrite = (*values)["overwrite"].as<bool>(),
                    .check = (*values)["check"].as<bool>()};
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
    const auto lock = lock_output(world, recipe.output);
    with_profile(*values, world, [&] {
      const ModelSource source(recipe.model);
      check_stages_before(recipe, source, world);
      run_train(recipe, source, world, mode, provenance("train", arguments), option_from(*values));
      on_rank_0(world, "draw the report", [&] {
        if (!mode.check) leave_report(RunPaths(recipe.output));
      });
    });
    return kExitOk;
  });
}

}  // namespace sutor
