// sutor prepare: rows -> token stores.
#include "launch/verbs/prepare.h"

#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/provenance.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/failure.h"
#include "launch/job/python_step.h"
#include "launch/log/metrics_log.h"
#include "launch/log/run_paths.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

namespace po = boost::program_options;

constexpr VerbHelp kHelp{
    "prepare", "Tokenizes the recipe's rows into token stores, with what is in the loss marked.",
    "sutor prepare RECIPE [--show N] [--set key=value]...",
    "sutor prepare my.yaml --show 2\n"
    "sutor prepare my.yaml --set data.template=chatml.jinja --set data.loss_on=last"};

nlohmann::json job_of(const Recipe& recipe, int show) {
  const RunPaths paths(recipe.output);
  nlohmann::json sources = nlohmann::json::array();
  const auto add = [&](const char* kind, const std::vector<DataSource>& list) {
    for (const DataSource& source : list) {
      if (source.format == "store") continue;  // tokens already
      sources.push_back({{"kind", kind},
                         {"path", source.path},
                         {"format", source.format},
                         {"name", source.name},
                         {"out", paths.tokens(source.name).string()}});
    }
  };
  add("train", recipe.data.train);
  add("eval", recipe.data.eval);
  return {{"model", model_files_root(recipe.model.path).string()},
          {"tokenizer", model_files_root(recipe.data.tokenizer).string()},
          {"template", recipe.data.chat_template},
          {"loss_on", recipe.data.loss_on},
          {"seq_len", recipe.data.seq_len},
          {"too_long", recipe.data.too_long},
          {"show", show},
          {"colour", use_colour(STDOUT_FILENO)},
          {"producer", version_text()},
          {"sources", sources}};
}

}  // namespace

int prepare_tokens(const Recipe& recipe, int show) {
  if (recipe.data.train.empty() && recipe.data.eval.empty()) require_train_data(recipe);
  const nlohmann::json job = job_of(recipe, show);
  if (job["sources"].empty()) {
    fmt::print("every set is a token store already\n");
    return kExitOk;
  }
  return run_python_step("prepare.py", job);
}

int verb_prepare(const Arguments& arguments) {
  return run_alone([&]() -> int {
    po::options_description options;
    po::positional_options_description positional;
    add_recipe_options(options, positional);
    options.add_options()("show", po::value<int>()->default_value(0),
                          "print the first N documents of every set, trained tokens marked");
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    return prepare_tokens(recipe_from(*values), (*values)["show"].as<int>());
  });
}

}  // namespace sutor
