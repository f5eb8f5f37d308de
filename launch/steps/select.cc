#include "launch/steps/select.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "checkpoint/store/open_model.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "launch/log/run_paths.h"
#include "launch/model/model_config.h"
#include "launch/steps/made_from.h"
#include "layers/esft/heat_map.h"
#include "layers/esft/score_records.h"

namespace fs = std::filesystem;

namespace sutor {
namespace {

void check_scores(const SelectRequest& request, const ScoreTable& scores,
                  const Selection& selection) {
  if (request.model.empty()) return;
  const ModelInfo model = read_model_info(request.model);
  if (scores.num_experts != model.num_experts) {
    fail(ErrorCode::kOtherScores,
         "{}: these scores are of {} experts a layer, but the model {} has {}. Score again.",
         request.scores.string(), scores.num_experts, request.model.string(), model.num_experts);
  }
  check_expert_config(selection.config, model, request.layer_base, request.scores.string());
  for (const int key : scores.empty_layers) {
    if (!model.is_moe(key - request.layer_base)) continue;
    fail(ErrorCode::kIncompleteScores,
         "{}: layer {} has only zeros, but it is a layer with experts of the model {}: its records "
         "are missing. Score again, or name the layers to train with --layers.",
         request.scores.string(), key, request.model.string());
  }
}

void tell_of_scores(const SelectRequest& request, const ScoreTable& scores) {
  const SelectOptions& options = request.options;
  const bool ranked = options.method == "top_n" || options.method == "budget";
  const bool gate = options.method == "gate" || (ranked && options.rank_by == "gate");
  for (const std::string& remark : remarks_on(scores, gate, request.scores.string())) {
    fmt::print(stderr, "{}\n", remark);
  }
  if (request.layer_base > 0) {
    fmt::print(
        stderr,
        "note: layers are numbered as in the scores, where the first is {}; training by this "
        "selection needs `esft.layer_base: {}`\n",
        request.layer_base, request.layer_base);
  }
}

// What multiplies the weights of the router before a hook may see them; families without such a
// factor have none.
double weight_scale(const fs::path& model) {
  const nlohmann::json config = parse_json(read_model_config(model)).value;
  const auto at = config.find("routed_scaling_factor");
  const bool given = at != config.end() && at->is_number() && at->get<double>() > 0;
  return given ? at->get<double>() : 1;
}

void print_table(const SelectRequest& request, const ScoreTable& scores,
                 const Selection& selection) {
  const bool gate = request.options.method == "gate";
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

}  // namespace

SelectRequest select_request(const Recipe& recipe) {
  const RunPaths paths(recipe.output);
  return {.options = recipe.esft.select,
          .scores = paths.scores(),
          .out = paths.expert_config(),
          .heat_map = paths.heat_map(),
          .model = recipe.model.path};
}

void run_select(const SelectRequest& request) {
  RecordShape shape;
  if (!request.model.empty()) {
    const ModelInfo model = read_model_info(request.model);
    shape = {.num_experts = model.num_experts,
             .top_k = model.top_k,
             .weight_scale = weight_scale(request.model)};
  }
  const ScoreTable scores = read_score_table(request.scores, shape);
  const Selection selection = select_experts(request.options, scores);
  check_scores(request, scores, selection);
  std::error_code ignored;
  const std::string title = fmt::format("{} of {}", request.options.method,
                                        fs::absolute(request.scores, ignored).filename().string());
  write_file_atomic(request.heat_map, heat_map_svg(scores, selection.config,
                                                   request.options.method == "gate", title));
  // Last: the config says that the selection is complete.
  write_selection(selection.config, selection_made_from(request.options, scores), request.out);
  tell_of_scores(request, scores);
  print_table(request, scores, selection);
  warn_of_whole_layers(selection);
  fmt::print("-> {}, {}\n", request.out.string(), request.heat_map.string());
}

}  // namespace sutor
