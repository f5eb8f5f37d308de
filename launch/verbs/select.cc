// sutor select: scores -> expert config and heat map.
#include "launch/steps/select.h"

#include <charconv>
#include <filesystem>
#include <optional>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/text/text.h"
#include "launch/cli/command_line.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/failure.h"
#include "launch/model/model_source.h"
#include "launch/output/output_lock.h"
#include "launch/steps/stage_checks.h"

namespace po = boost::program_options;
namespace fs = std::filesystem;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "select",
    "Chooses the experts to train from scores: ours, or the authors' records and summaries.",
    "sutor select RECIPE [--set key=value]...\n"
    "sutor select --scores PATH --out FILE [--method M] [--top-p P] ...",
    "sutor select my.yaml --set esft.select.top_p=0.15\n"
    "sutor select --scores scores/intent --method token --top-p 0.2 --out intent.json"};

int parse_layer(std::string_view text, const std::string& whole) {
  int layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error != std::errc() || end != text.data() + text.size() || layer < 0 || layer > 99'999) {
    fail(ErrorCode::kBadArgument,
         "--layers {}: `{}` is no layer number. Give numbers and ranges, e.g. 1,2,5-9.", whole,
         text);
  }
  return layer;
}

std::vector<int> parse_layers(const std::string& text) {
  std::vector<int> layers;
  for (const std::string_view part : split_at_commas(text)) {
    const size_t dash = part.find('-');
    const int first = parse_layer(part.substr(0, dash), text);
    const int last =
        dash == std::string_view::npos ? first : parse_layer(part.substr(dash + 1), text);
    if (last < first) {
      fail(ErrorCode::kBadArgument, "--layers {}: the range {} runs backwards.", text, part);
    }
    for (int layer = first; layer <= last; ++layer) layers.push_back(layer);
  }
  return layers;
}

po::options_description make_options(po::positional_options_description& positional) {
  po::options_description options(100);
  add_recipe_options(options, positional);
  auto add = options.add_options();
  add("scores", po::value<std::string>(), "scores.h5, summary.json, or a folder of records");
  add("method", po::value<std::string>(), "token (default), gate, random, top_n, budget or none");
  add("top-p", po::value<double>(), "share to cover; default 0.2 for token, 0.1 for gate");
  add("n", po::value<int>(), "experts a layer, for top_n and random");
  add("budget", po::value<double>(), "share of all routed experts, for budget");
  add("rank-by", po::value<std::string>(),
      "token (default) or gate: the score that ranks experts for top_n and budget");
  add("min-per-layer", po::value<int>(), "experts that every layer gets; default 1");
  add("seed", po::value<uint64_t>(), "of random; default 0");
  add("layers", po::value<std::string>(), "only these, e.g. 1,2,5-9; numbered as in the scores");
  add("train-shared-experts", "sets shared_experts in the config");
  add("train-non-expert-modules", "sets non_expert_modules in the config");
  add("model", po::value<std::string>(), "check the result against this model's config.json");
  add("layer-base", po::value<int>(), "number of the first layer in the scores, for that check");
  add("out", po::value<std::string>(), "the expert config to write (JSON)");
  add("heat-map", po::value<std::string>(), "the picture to write; default: beside it, .svg");
  return options;
}

template <typename T, typename Target>
void take(const po::variables_map& values, const char* name, Target& target) {
  if (values.count(name)) target = values[name].as<T>();
}

SelectRequest request_of(const po::variables_map& values, const Recipe* recipe) {
  SelectRequest request;
  const bool with_recipe = recipe != nullptr;
  if (with_recipe) request = select_request(*recipe);
  take<std::string>(values, "scores", request.scores);
  take<std::string>(values, "out", request.out);
  if (!with_recipe && (request.scores.empty() || request.out.empty())) {
    fail(ErrorCode::kBadArgument, "sutor select: give a recipe, or --scores PATH and --out FILE.");
  }
  take<std::string>(values, "method", request.options.method);
  take<double>(values, "top-p", request.options.top_p);
  take<int>(values, "n", request.options.n);
  take<double>(values, "budget", request.options.budget);
  take<std::string>(values, "rank-by", request.options.rank_by);
  take<int>(values, "min-per-layer", request.options.min_per_layer);
  take<uint64_t>(values, "seed", request.options.seed);
  if (values.count("layers"))
    request.options.layers = parse_layers(values["layers"].as<std::string>());
  if (values.count("train-shared-experts")) request.options.shared_experts = true;
  if (values.count("train-non-expert-modules")) request.options.non_expert_modules = true;
  take<std::string>(values, "model", request.model);
  take<int>(values, "layer-base", request.layer_base);
  if (values.count("out") || request.heat_map.empty()) {
    request.heat_map = fs::path(request.out).replace_extension(".svg");
  }
  take<std::string>(values, "heat-map", request.heat_map);
  require_plain_file(request.out);
  require_plain_file(request.heat_map);
  return request;
}

// The recipe's own scores must be of its tokens, model and keys; its own config must not be a
// person's. What is named on the command line is for whoever names it to know.
void check_stages_before(const Recipe& recipe, const SelectRequest& request) {
  const SelectRequest own = select_request(recipe);
  if (request.scores == own.scores && is_there(own.scores)) {
    StageChecks checks(recipe, ModelSource(recipe.model).digest().text());
    require_scores(checks, recipe);
  }
  if (request.out == own.out) require_unedited(StageChecks(recipe, "").expert_config());
}

void select(const po::variables_map& values) {
  std::optional<Recipe> recipe;
  std::optional<OutputLock> lock;
  if (values.count("recipe")) {
    recipe = recipe_from(values);
    lock.emplace(recipe->output);
  }
  const SelectRequest request = request_of(values, recipe ? &*recipe : nullptr);
  if (recipe) check_stages_before(*recipe, request);
  run_select(request);
}

}  // namespace

int verb_select(const Arguments& arguments) {
  return run_alone([&] {
    po::positional_options_description positional;
    const po::options_description options = make_options(positional);
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (values) select(*values);
    return kExitOk;
  });
}

}  // namespace sutor
