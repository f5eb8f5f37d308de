// sutor generate: completes prompts, greedy or sampled.
#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "launch/checkpoints/apply_checkpoint.h"
#include "launch/cli/command_line.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/cli/token_ids.h"
#include "launch/eval/generation.h"
#include "launch/eval/text_generation.h"
#include "launch/job/agreement.h"
#include "launch/job/job.h"
#include "launch/log/metrics_log.h"
#include "launch/log/run_paths.h"
#include "launch/model/session.h"
#include "launch/output/output_lock.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "generate",
    "Completes prompts token by token: greedy, or sampled with generate.temperature and "
    "generate.top_p. Several ranks share the prompts.",
    "sutor generate RECIPE | --model DIR  --prompts ROWS.jsonl | --ids FILE.json  --out FILE "
    "[--checkpoint best|last|none|DIR] [--set key=value]... [--profile]",
    "sutor generate my.yaml --checkpoint best --prompts eval.jsonl --out completions.jsonl\n"
    "mpiexec -n 2 sutor generate --model model/ --dtype fp32 --ids prompts.json --out out.json "
    "--set parallel.ep=2"};

void write_ids(const GenerationResult& result, const std::string& path) {
  nlohmann::json out = nlohmann::json::array();
  for (const Completion& completion : result.completions) out.push_back(completion.ids);
  write_file_atomic(path, dump_json(out) + "\n");
}

// --out is looked at before the model is loaded; in the recipe's output it needs that one's lock.
std::optional<OutputLock> lock_for(const po::variables_map& values, const Recipe& recipe,
                                   Comm& world) {
  const std::filesystem::path out = values["out"].as<std::string>();
  const bool inside = from_rank_0(world, "look at --out", [&]() -> std::string {
                        require_plain_file(out);
                        return lies_within(out, recipe.output) ? "inside" : "";
                      }) == "inside";
  if (!inside || !values.count("recipe")) return {};
  return lock_output(world, recipe.output);
}

void run_generate(const Recipe& recipe, Comm& world, const po::variables_map& values) {
  set_threads(recipe.train.threads);
  const ChosenCheckpoint chosen =
      choose_for_all(world, RunPaths(recipe.output).checkpoints(), checkpoint_option(values));
  if (world.rank() == 0) {
    fmt::print("{}\n", checkpoint_line(chosen, recipe.model.path));
    std::fflush(stdout);
  }
  const ModelSource source(recipe.model);
  check_source(source, world);
  Session session(source, world, session_options(recipe, world));
  apply_checkpoint(chosen, session);
  const std::string out = values["out"].as<std::string>();
  GenerationResult result;
  if (values.count("prompts")) {
    const TextResult text =
        generate_text(recipe, session, {values["prompts"].as<std::string>()}, out);
    result = text.generation;
    if (world.rank() == 0 && text.dropped > 0) {
      fmt::print(stderr, "warning[{}]: {} prompts are too long for the model's context\n",
                 WarningCode::kPromptsTooLong, text.dropped);
    }
  } else {
    const auto prompts = read_token_ids(values["ids"].as<std::string>(), "prompts");
    result = generate(session, prompts, stop_ids(source), recipe.generate);
    if (world.rank() == 0) write_ids(result, out);
  }
  if (world.rank() != 0) return;
  fmt::print("{} prompts of {} tokens -> {} new tokens in {:.1f} s ({:.0f} tok/s) -> {}\n",
             result.completions.size(), format_count(result.prompt_tokens),
             format_count(result.new_tokens), result.seconds,
             static_cast<double>(result.new_tokens) / result.seconds, out);
}

}  // namespace

int verb_generate(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  add_model_options(options);
  options.add_options()("prompts", po::value<std::string>(),
                        "JSON lines as `prepare` takes them; only prompts are used")(
      "ids", po::value<std::string>(), "JSON: a list of prompts, each a list of token ids")(
      "out", po::value<std::string>()->required(),
      "completions as JSON lines (with --ids: JSON, the new ids of each prompt)")(
      "checkpoint", po::value<std::string>()->default_value(kAutoCheckpoint), kCheckpointHelp);
  add_device_option(options);
  add_profile_option(options);
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    if (values->count("prompts") == values->count("ids")) {
      fail(ErrorCode::kBadArgument, "give --prompts or --ids (one of the two)");
    }
    const Recipe recipe = recipe_or_model_from(*values);
    const std::optional<OutputLock> lock = lock_for(*values, recipe, world);
    with_profile(*values, world, [&] { run_generate(recipe, world, *values); });
    return kExitOk;
  });
}

}  // namespace sutor
