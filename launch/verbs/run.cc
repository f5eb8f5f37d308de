// sutor run: all steps of a recipe in order, skipping what is still valid.
#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/provenance.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/job.h"
#include "launch/output/output_lock.h"
#include "launch/steps/run_recipe.h"
#include "recipes/recipe_reader.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "run",
    "Goes the whole way of a recipe: prepare, score, select, train, export; a step whose outputs "
    "are still valid is skipped, an unfinished training goes on.",
    "sutor run RECIPE [--set key=value]... [--overwrite] [--from CHECKPOINT] [--profile]",
    "sutor run my.yaml\n"
    "mpiexec -n 4 sutor run my.yaml --set parallel.ep=4"};

}  // namespace

int verb_run(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  options.add_options()(
      "overwrite", po::bool_switch(),
      "train and export anew; an earlier training is deleted when the new one has a "
      "checkpoint")("from", po::value<std::string>(),
                    "a step directory of another run: training begins from its weights (and its "
                    "moments, with the same optimizer), at step 0");
  add_device_option(options);
  add_profile_option(options);
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const Recipe recipe = recipe_from(*values);
    require_optimizer_dtype(recipe);
    const auto lock = lock_output(world, recipe.output);
    set_threads(recipe.train.threads);
    with_profile(*values, world, [&] {
      run_recipe(recipe, world,
                 {.overwrite = (*values)["overwrite"].as<bool>(), .from = option_from(*values)},
                 provenance("run", arguments));
    });
    return kExitOk;
  });
}

}  // namespace sutor
