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
    "sutor prepare RECIPE [--show N [--ids]] [--report] [--strict] [--set key=value]...",
    "sutor prepare my.yaml --show 2 --report\n"
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
    options.add_options()("ids", po::bool_switch(), "with --show: print their token ids, too");
    options.add_options()("report", po::bool_switch(),
                          "print a page about the data: lengths, share in the loss, duplicates, "
                          "empty and cut answers, rows for evaluation that are among those for "
                          "training, odd characters and rows; also written to "
                          "OUTPUT/data_report.html");
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const DataLook look{.show = (*values)["show"].as<int>(),
                        .ids = (*values)["ids"].as<bool>(),
                        .report = (*values)["report"].as<bool>()};
    if (look.show < 0) fail(ErrorCode::kBadValue, "--show is {}; expected 0 or more", look.show);
    const Recipe recipe = recipe_from(*values);
    const OutputLock lock(recipe.output);
    return run_prepare(recipe, look, (*values)["strict"].as<bool>());
  });
}

}  // namespace sutor
