// sutor chat: a conversation with a model on a terminal or over a pipe.
#include "launch/chat/chat.h"

#include <fmt/format.h>

#include <optional>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/checkpoints/apply_checkpoint.h"
#include "launch/cli/command_line.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/job.h"
#include "launch/log/run_paths.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "chat",
    "Talks with a model: a line is a turn, the answer comes as it is made. Reads from a terminal "
    "or "
    "a pipe; /reset, /undo, /save FILE, /quit; Ctrl-C stops an answer. Greedy, or sampled with "
    "generate.temperature and generate.top_p.",
    "sutor chat RECIPE|MODEL_DIR [--checkpoint best|last|none|DIR] [--system TEXT] "
    "[--set key=value]...",
    "sutor chat my.yaml --set generate.temperature=0.7\n"
    "echo 'What is a router?' | sutor chat model/ --dtype bf16"};

// `sutor chat DIR` means `sutor chat --model DIR`.
Arguments with_model(Arguments arguments) {
  for (auto at = arguments.begin(); at != arguments.end(); ++at) {
    const bool is_value = at != arguments.begin() && (at - 1)->starts_with("--") &&
                          (at - 1)->find('=') == std::string::npos;
    if (is_value || at->starts_with("-") || !is_folder(*at)) continue;
    arguments.insert(at, "--model");
    break;
  }
  return arguments;
}

}  // namespace

int verb_chat(const Arguments& given) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  add_model_options(options);
  options.add_options()("checkpoint", po::value<std::string>()->default_value(kAutoCheckpoint),
                        kCheckpointHelp)("system", po::value<std::string>(),
                                         "the system message, before the first turn");
  add_device_option(options);
  const Arguments arguments = with_model(given);
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const Recipe recipe = recipe_or_model_from(*values);
    set_threads(recipe.train.threads);
    const ChosenCheckpoint chosen =
        choose_for_all(world, RunPaths(recipe.output).checkpoints(), checkpoint_option(*values));
    if (world.rank() == 0) {
      fmt::print(stderr, "{}\n", checkpoint_line(chosen, recipe.model.path));
    }
    const ModelSource source(recipe.model);
    check_source(source, world);
    Session session(source, world, session_options(recipe, world));
    apply_checkpoint(chosen, session);
    std::optional<std::string> system;
    if (values->count("system")) system = (*values)["system"].as<std::string>();
    run_chat(recipe, session, system);
    return kExitOk;
  });
}

}  // namespace sutor
