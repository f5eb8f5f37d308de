// sutor select: scores -> expert config and heat map.
#include "launch/verbs/select.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "launch/cli/command_line.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/failure.h"
#include "launch/log/run_paths.h"
#include "launch/model/model_config.h"
#include "layers/esft/heat_map.h"
#include "layers/esft/score_records.h"
#include "layers/esft/select_experts.h"

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

struct SelectJob {
  SelectOptions options;
  fs::path scores, out, heat_map;
  fs::path model;  // empty: the config is not checked against a model
  int layer_base = 0;
};

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
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = std::string_view(text).substr(begin, end - begin);
    const size_t dash = part.find('-');
    const int first = parse_layer(part.substr(0, dash), text);
    const int last =
        dash == std::string_view::npos ? first : parse_layer(part.substr(dash + 1), text);
    if (last < first) {
      fail(ErrorCode::kBadArgument, "--layers {}: the range {} runs backwards.", text, part);
    }
    for (int layer = first; layer <= last; ++layer) layers.push_back(layer);
    begin = end + 1;
  }
  return layers;
}

void check_scores(const SelectJob& job, const ScoreTable& scores, const Selection& selection) {
  if (job.model.empty()) return;
  const ModelInfo model = read_model_info(job.model);
  if (scores.num_experts != model.num_experts) {
    fail(ErrorCode::kOtherScores,
         "{}: these scores are of {} experts a layer, but the model {} has {}. Score again.",
         job.scores.string(), scores.num_experts, job.model.string(), model.num_experts);
  }
  check_expert_config(selection.config, model, job.layer_base, job.scores.string());
}

void print_table(const SelectJob& job, const ScoreTable& scores, const Selection& selection) {
  const bool gate = job.options.method == "gate";
  fmt::print("layer  experts  {}  chosen\n", gate ? "gate score" : "share");
  int fewest = scores.num_experts, most = 0;
  double lowest = 1e9, highest = 0;
  for (const LayerSelection& line : selection.layers) {
    fmt::print(
        "{:>5}  {:>7}  {}  {}\n", line.layer, line.chosen,
        gate ? fmt::format("{:>10.4f}", line.share) : fmt::format("{:>4.1f}%", 100 * line.share),
        fmt::join(selection.config.experts.at(line.layer), " "));
    fewest = std::min(fewest, line.chosen);
    most = std::max(most, line.chosen);
    lowest = std::min(lowest, line.share);
    highest = std::max(highest, line.share);
  }
  if (selection.layers.empty()) return;
  const auto layers = static_cast<int64_t>(scores.token.size());
  const int64_t all = layers * scores.num_experts;
  fmt::print(
      "{} of {} experts ({:.1f}%), {} to {} a layer in {} of {} layers; covered: {}\n",
      selection.config.num_experts(), all,
      100.0 * static_cast<double>(selection.config.num_experts()) / static_cast<double>(all),
      fewest, most, selection.layers.size(), layers,
      gate ? fmt::format("{:.4f} to {:.4f} routing weight a token", lowest, highest)
           : fmt::format("{:.1f}% to {:.1f}% of the selections", 100 * lowest, 100 * highest));
}

void warn_of_whole_layers(const Selection& selection) {
  for (const LayerSelection& line : selection.layers) {
    if (!line.all) continue;
    fmt::print(stderr,
               "warning[{}]: layer {}: its scores add up to {:.4f} only, below top_p {}, so every "
               "expert is taken\n",
               WarningCode::kWholeLayerSelected, line.layer, line.share, selection.top_p);
  }
}

void make_parent(const fs::path& path) {
  if (path.has_parent_path()) fs::create_directories(path.parent_path());
}

void select(const SelectJob& job) {
  RecordShape shape;
  if (!job.model.empty()) {
    const ModelInfo model = read_model_info(job.model);
    shape = {.num_experts = model.num_experts, .top_k = model.top_k};
  }
  const ScoreTable scores = read_score_table(job.scores, shape);
  const Selection selection = select_experts(job.options, scores);
  check_scores(job, scores, selection);
  make_parent(job.out);
  write_expert_config(selection.config, job.out);
  make_parent(job.heat_map);
  const std::string title =
      fmt::format("{} of {}", job.options.method, fs::absolute(job.scores).filename().string());
  write_file_atomic(job.heat_map,
                    heat_map_svg(scores, selection.config, job.options.method == "gate", title));
  print_table(job, scores, selection);
  warn_of_whole_layers(selection);
  fmt::print("-> {}, {}\n", job.out.string(), job.heat_map.string());
}

SelectJob job_of(const Recipe& recipe) {
  const RunPaths paths(recipe.output);
  return {.options = recipe.esft.select,
          .scores = paths.scores(),
          .out = paths.expert_config(),
          .heat_map = paths.heat_map(),
          .model = recipe.model.path};
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

SelectJob job_of(const po::variables_map& values) {
  SelectJob job;
  const bool with_recipe = values.count("recipe") > 0;
  if (with_recipe) job = job_of(recipe_from(values));
  take<std::string>(values, "scores", job.scores);
  take<std::string>(values, "out", job.out);
  if (!with_recipe && (job.scores.empty() || job.out.empty())) {
    fail(ErrorCode::kBadArgument, "sutor select: give a recipe, or --scores PATH and --out FILE.");
  }
  take<std::string>(values, "method", job.options.method);
  take<double>(values, "top-p", job.options.top_p);
  take<int>(values, "n", job.options.n);
  take<double>(values, "budget", job.options.budget);
  take<std::string>(values, "rank-by", job.options.rank_by);
  take<int>(values, "min-per-layer", job.options.min_per_layer);
  take<uint64_t>(values, "seed", job.options.seed);
  if (values.count("layers")) job.options.layers = parse_layers(values["layers"].as<std::string>());
  if (values.count("train-shared-experts")) job.options.shared_experts = true;
  if (values.count("train-non-expert-modules")) job.options.non_expert_modules = true;
  take<std::string>(values, "model", job.model);
  take<int>(values, "layer-base", job.layer_base);
  if (values.count("out") || job.heat_map.empty()) {
    job.heat_map = fs::path(job.out).replace_extension(".svg");
  }
  take<std::string>(values, "heat-map", job.heat_map);
  return job;
}

}  // namespace

void run_select(const Recipe& recipe) { select(job_of(recipe)); }

int verb_select(const Arguments& arguments) {
  return run_alone([&] {
    po::positional_options_description positional;
    const po::options_description options = make_options(positional);
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (values) select(job_of(*values));
    return kExitOk;
  });
}

}  // namespace sutor
