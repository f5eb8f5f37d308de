// sutor eval: measures a recipe's evaluation sets before and after training, or scores existing
// completions.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "launch/checkpoints/choose_checkpoint.h"
#include "launch/cli/command_line.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/eval/completion_scores.h"
#include "launch/eval/model_evaluation.h"
#include "launch/job/agreement.h"
#include "launch/job/failure.h"
#include "launch/job/job.h"
#include "launch/log/run_paths.h"
#include "launch/output/output_lock.h"
#include "launch/steps/stage_checks.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "eval",
    "Measures a recipe's evaluation sets on the base model and on the trained one: loss, "
    "perplexity, token accuracy, exact matches, and scores of generated completions for sets with "
    "a `scorer`. Or scores a file of completions: JSON lines of {\"example\": {\"prompt\", "
    "\"raw_prediction\", \"raw_answers\"}}.",
    "sutor eval RECIPE [--checkpoint best|last|none|DIR] [--mask CONFIG] [--json] | "
    "sutor eval --completions FILE --scorer NAME[,NAME]... [--json] [--out FILE]",
    "sutor eval my.yaml --checkpoint best --json\n"
    "sutor eval --completions intent.jsonl --scorer intent,exact --out scored.jsonl"};

po::options_description make_options(po::positional_options_description& positional) {
  po::options_description options(100);
  add_recipe_options(options, positional);
  auto add = options.add_options();
  add("checkpoint", po::value<std::string>()->default_value(kAutoCheckpoint), kCheckpointHelp);
  add("no-base", po::bool_switch(), "do not measure the base model");
  add("mask", po::value<std::string>(),
      "expert config: the router must not choose its experts (losses only)");
  add("completions", po::value<std::string>(),
      "score this file; raw_answers may be a list, the best match counts");
  add_scoring_options(options);
  add("json", po::bool_switch(),
      "print JSON and nothing else on stdout: by model and set; with --completions {\"mean\", "
      "\"scores\"}");
  add("out", po::value<std::string>()->default_value(""),
      "with --completions: write the rows there with their `score`");
  add_device_option(options);
  add_profile_option(options);
  return options;
}

void run_eval(const Recipe& recipe, Comm& world, const po::variables_map& values) {
  set_threads(recipe.train.threads);
  EvaluationRequest request{.checkpoint = values["checkpoint"].as<std::string>(),
                            .base = !values["no-base"].as<bool>(),
                            .folder = RunPaths(recipe.output).evaluation()};
  on_rank_0(world, "check the tokens", [&] {
    StageChecks checks(recipe, "");
    require_tokens(checks, recipe, /*train=*/false, /*eval=*/true);
  });
  if (values.count("mask")) request.masked = values["mask"].as<std::string>();
  const std::vector<EvaluatedModel> models = evaluate_models(recipe, world, request);
  if (world.rank() != 0) return;
  const std::string json = dump_json(evaluation_json(models), 2) + "\n";
  write_file_atomic(request.folder / "evaluation.json", json);
  fmt::print("{}", values["json"].as<bool>() ? json : evaluation_table(models));
}

}  // namespace

int verb_eval(const Arguments& arguments) {
  po::positional_options_description positional;
  const po::options_description options = make_options(positional);
  // Scoring a file needs no ranks and no torch.
  const auto is_file = [](const std::string& argument) {
    return argument.starts_with("--completions");
  };
  if (std::any_of(arguments.begin(), arguments.end(), is_file)) {
    return run_alone([&]() -> int {
      const auto values = parse_command_line(kHelp, options, positional, arguments);
      if (!values) return kExitOk;
      require_plain_file((*values)["out"].as<std::string>());
      return print_scores((*values)["completions"].as<std::string>(), scoring_from(*values),
                          (*values)["json"].as<bool>(), (*values)["out"].as<std::string>());
    });
  }
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    if (values->count("scorer")) {
      fail(ErrorCode::kBadArgument,
           "--scorer is for --completions; a recipe's sets name their own `scorer`");
    }
    const Recipe recipe = recipe_from(*values);
    const auto lock = lock_output(world, recipe.output);
    with_profile(*values, world, [&] { run_eval(recipe, world, *values); });
    return kExitOk;
  });
}

}  // namespace sutor
