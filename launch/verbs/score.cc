// sutor score: expert scores of a sample of the training tokens.
#include <fmt/format.h>

#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/provenance.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/data/token_stores.h"
#include "launch/eval/score_model.h"
#include "launch/job/job.h"
#include "launch/log/metrics_log.h"
#include "launch/log/run_paths.h"
#include "launch/stages/stages.h"
#include "layers/esft/score_records.h"
#include "recipes/recipe_reader.h"

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

void run_score(const Recipe& recipe, Comm& world,
               const std::optional<std::filesystem::path>& records) {
  const RunPaths paths(recipe.output);
  const ModelSource source(recipe.model);
  const TokenStores stores(recipe, source.info.vocab_size);
  Session session(source, world,
                  {.parallel = recipe.parallel, .dtype = computing_dtype(recipe.model.dtype)});
  const Digest base = base_digest(source, world);
  const ScoreResult result = score_model(recipe, session, stores.train(), records);
  if (result.tokens == 0) {
    fail(ErrorCode::kNoData, "esft.score.tokens takes no token of the training data");
  }
  if (world.rank() != 0) return;
  write_scores(result.scores,
               {source.info.family, base.text(), result.sample_digest.text(), version_text()},
               paths.scores());
  if (records) write_summary(result.scores.table(), *records / "summary.json");
  fmt::print("weights  {}\n", weights_text(session));
  fmt::print("scored {} tokens on {} rank(s) in {:.1f} s: {} layers x {} experts -> {}\n",
             format_count(result.tokens), world.size(), result.seconds,
             result.scores.layers().size(), result.scores.num_experts(), paths.scores().string());
}

int verb_score(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  options.add_options()("records", po::value<std::string>(),
                        "also write the authors' text records and summary.json to this folder");
  add_profile_option(options);
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const Recipe recipe = recipe_from(*values);
    set_threads(recipe.train.threads);
    std::optional<std::filesystem::path> records;
    if (values->count("records")) records = (*values)["records"].as<std::string>();
    with_profile(*values, world, [&] { run_score(recipe, world, records); });
    return kExitOk;
  });
}

}  // namespace sutor
