// sutor score: expert scores of a sample of the training tokens.
#include "launch/steps/score.h"

#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/agreement.h"
#include "launch/job/job.h"
#include "launch/output/output_lock.h"
#include "launch/steps/stage_checks.h"
#include "layers/esft/score_records.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "score",
    "Routes a sample of the training tokens through the frozen model and counts, for every "
    "layer, how often and with what weight each expert was chosen.",
    "sutor score RECIPE [--set key=value]... [--records DIR] [--profile]",
    "sutor score my.yaml --set esft.score.tokens=131072\n"
    "mpiexec -n 4 sutor score my.yaml --set parallel.ep=4 --records scores/"};

}  // namespace

int verb_score(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  options.add_options()("records", po::value<std::string>(),
                        "also write the authors' text records and summary.json to this folder");
  add_device_option(options);
  add_profile_option(options);
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const Recipe recipe = recipe_from(*values);
    const auto lock = lock_output(world, recipe.output);
    set_threads(recipe.train.threads);
    std::optional<std::filesystem::path> records;
    if (values->count("records")) records = (*values)["records"].as<std::string>();
    on_rank_0(world, "look at --records", [&] {
      if (records) check_record_folder(*records);
    });
    with_profile(*values, world, [&] {
      on_rank_0(world, "check the tokens", [&] {
        StageChecks checks(recipe, "");
        require_tokens(checks, recipe, /*train=*/true, /*eval=*/false);
      });
      run_score(recipe, ModelSource(recipe.model), world, records);
    });
    return kExitOk;
  });
}

}  // namespace sutor
