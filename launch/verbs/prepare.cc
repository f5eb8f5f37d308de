// sutor prepare: rows -> token stores.
#include "launch/steps/prepare.h"

#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/failure.h"
#include "launch/output/output_lock.h"

namespace sutor {
namespace {

namespace po = boost::program_options;

constexpr VerbHelp kHelp{
    "prepare", "Tokenizes the recipe's rows into token stores, with what is in the loss marked.",
    "sutor prepare RECIPE [--show N] [--strict] [--set key=value]...",
    "sutor prepare my.yaml --show 2\n"
    "sutor prepare my.yaml --set data.template=chatml.jinja --set data.loss_on=last"};

}  // namespace

int verb_prepare(const Arguments& arguments) {
  return run_alone([&]() -> int {
    po::options_description options;
    po::positional_options_description positional;
    add_recipe_options(options, positional);
    options.add_options()("show", po::value<int>()->default_value(0),
                          "print the first N documents of every set, trained tokens marked");
    options.add_options()("strict", po::bool_switch(),
                          "stop at the first row that cannot be used, instead of leaving it out");
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const Recipe recipe = recipe_from(*values);
    const OutputLock lock(recipe.output);
    return run_prepare(recipe, (*values)["show"].as<int>(), (*values)["strict"].as<bool>());
  });
}

}  // namespace sutor
