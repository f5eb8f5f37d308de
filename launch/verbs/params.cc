// sutor params: prints names or regular expressions of the trainable parameters, per rank.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "csrc/base/error.h"
#include "csrc/base/text/json.h"
#include "launch/cli/command_line.h"
#include "launch/cli/layout_arguments.h"
#include "launch/job/failure.h"
#include "launch/model/model_config.h"
#include "layers/esft/name_schemes.h"
#include "parallel_state/layout/stage_costs.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "params",
    "Prints the trainable parameters under an expert config, by their names inside each rank.",
    "sutor params --config FILE --model DIR [--world N] [--tp N] ... [--names SCHEME]",
    "sutor params --config intent.json --model DeepSeek-V2-Lite --names hf --format lines\n"
    "sutor params --config intent.json --model DeepSeek-V2-Lite --world 16 --pp 2 --ep 8 \\\n"
    "  --names megatron-te --format regex --rank 3"};

struct ParamsJob {
  std::string config, model, names, format;
  ParallelOptions parallel;
  int world = 0;
  int layer_base = 0;
  TrainablePatterns patterns;
  std::optional<int> rank, pp_rank, ep_rank;
};

po::options_description make_options() {
  po::options_description options(100);
  auto add = options.add_options();
  add("config", po::value<std::string>()->required(), "the expert config (JSON)");
  add("model", po::value<std::string>()->required(), "model directory; only config.json is read");
  add_layout_options(options);
  add("stages", po::value<std::string>()->default_value("even"),
      "layers of each stage, e.g. 14,13");
  add("names", po::value<std::string>()->default_value("hf"),
      "hf, sutor, megatron-te, megatron-local, or a pattern with {layer} {expert} {proj} {kind}");
  add("format", po::value<std::string>()->default_value("json"),
      "json, lines, space or regex; with several ranks each line starts with the rank and a TAB");
  add("rank", po::value<int>(), "only this rank");
  add("pp-rank", po::value<int>(), "only this pipeline stage, with --ep-rank");
  add("ep-rank", po::value<int>(), "only this expert rank, with --pp-rank");
  add("layer-base", po::value<int>()->default_value(0), "number of the config's first layer");
  add("also-train", po::value<std::vector<std::string>>()->composing(), "pattern on global names");
  add("keep-frozen", po::value<std::vector<std::string>>()->composing(), "pattern on global names");
  return options;
}

std::optional<int> optional_int(const po::variables_map& values, const char* name) {
  if (!values.count(name)) return std::nullopt;
  return values[name].as<int>();
}

std::vector<std::string> list_of(const po::variables_map& values, const char* name) {
  if (!values.count(name)) return {};
  return values[name].as<std::vector<std::string>>();
}

ParamsJob job_of(const po::variables_map& values) {
  const auto text = [&](const char* name) { return values[name].as<std::string>(); };
  LayoutArguments layout = layout_from(values);
  layout.parallel.stages = text("stages");
  ParamsJob job{.config = text("config"),
                .model = text("model"),
                .names = text("names"),
                .format = text("format"),
                .parallel = layout.parallel,
                .world = layout.world,
                .layer_base = values["layer-base"].as<int>(),
                .patterns = {list_of(values, "also-train"), list_of(values, "keep-frozen")},
                .rank = optional_int(values, "rank"),
                .pp_rank = optional_int(values, "pp-rank"),
                .ep_rank = optional_int(values, "ep-rank")};
  if (job.format != "json" && job.format != "lines" && job.format != "space" &&
      job.format != "regex") {
    fail(ErrorCode::kBadArgument,
         "sutor params: unknown --format {}; known: json, lines, space, regex.", job.format);
  }
  if (job.pp_rank.has_value() != job.ep_rank.has_value() || (job.rank && job.pp_rank)) {
    fail(ErrorCode::kBadArgument,
         "sutor params: name one rank by --rank, or by --pp-rank and --ep-rank together.");
  }
  return job;
}

std::vector<int> ranks_of(const ParamsJob& job, const RankLayout& layout) {
  std::vector<int> ranks;
  for (int rank = 0; rank < layout.world_size(); ++rank) {
    const RankCoordinates at = layout.coordinates(rank);
    if (job.rank && *job.rank != rank) continue;
    if (job.pp_rank && (at.pp != *job.pp_rank || at.ep != *job.ep_rank)) continue;
    ranks.push_back(rank);
    if (job.pp_rank) break;  // all ranks with these coordinates have the same names
  }
  if (ranks.empty()) {
    fail(ErrorCode::kBadArgument, "sutor params: there is no such rank; the layout is {}.",
         layout.describe());
  }
  return ranks;
}

std::string rank_text(const ParamsJob& job, const RankCoordinates& at, int rank,
                      const std::vector<std::string>& names) {
  if (job.format == "lines") return fmt::format("{}", fmt::join(names, "\n"));
  if (job.format == "space") return fmt::format("{}", fmt::join(names, " "));
  if (job.format == "regex") return anchored_regex(names);
  nlohmann::ordered_json json = {{"rank", rank}, {"pp", at.pp}, {"ep", at.ep}};
  json["names"] = names;
  json["regex"] = anchored_regex(names);
  return dump_json(json);
}

std::string with_prefix(const std::string& text, int rank) {
  std::string result = fmt::format("{}\t", rank);
  for (char c : text) {
    result += c;
    if (c == '\n') result += fmt::format("{}\t", rank);
  }
  return result;
}

void print_params(const ParamsJob& job) {
  const NameScheme scheme(job.names);
  const ModelInfo model = read_model_info(job.model);
  const ExpertConfig config =
      check_expert_config(read_expert_config(job.config), model, job.layer_base, job.config);
  const ExpertPlacement placement(model.num_experts, job.parallel, job.world);
  const RankLayout layout(job.parallel, job.world);
  const TrainableSet plan = trainable_set(model, config, job.patterns);
  const StageMap stages =
      make_stage_map(model, job.parallel.pp, job.parallel.stages,
                     [&](const TensorEntry& tensor) { return plan.contains(tensor.name); });
  const std::vector<int> ranks = ranks_of(job, layout);
  const bool json = job.format == "json";
  std::map<std::pair<int, int>, std::vector<std::string>> known;  // by (pp, ep)
  std::string text = json ? "{\"ranks\": [\n" : "";
  for (size_t i = 0; i < ranks.size(); ++i) {
    const RankCoordinates at = layout.coordinates(ranks[i]);
    auto it = known.find({at.pp, at.ep});
    if (it == known.end()) {
      RankNames names = rank_names(model, plan, scheme, layout, stages, placement, ranks[i]);
      it = known.emplace(std::pair(at.pp, at.ep), std::move(names.trainable)).first;
    }
    if (!json && job.format != "regex" && it->second.empty()) continue;  // no names, no line
    const std::string part = rank_text(job, at, ranks[i], it->second);
    text += json || ranks.size() == 1 ? part : with_prefix(part, ranks[i]);
    text += json && i + 1 < ranks.size() ? ",\n" : "\n";
  }
  fmt::print("{}{}", text, json ? "]}\n" : "");
}

}  // namespace

int verb_params(const Arguments& arguments) {
  return run_alone([&] {
    const auto values = parse_command_line(kHelp, make_options(), {}, arguments);
    if (values) print_params(job_of(*values));
    return kExitOk;
  });
}

}  // namespace sutor
