#include "launch/model/expert_ranks.h"

#include <nlohmann/json.hpp>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/job/agreement.h"
#include "launch/log/run_paths.h"
#include "layers/esft/score_records.h"
#include "parallel_state/placement/balanced_placement.h"

namespace sutor {
namespace {

std::map<int, LayerLoad> layer_loads(const std::filesystem::path& path, const ModelInfo& model,
                                     const TrainableSet& trainable) {
  if (!is_there(path)) {
    fail(
        ErrorCode::kNoScores,
        "parallel.expert_placement: balanced and parallel.frozen_replicas need scores, but {} does "
        "not exist. Run `sutor score` with this recipe first, or choose contiguous and 0.",
        path.string());
  }
  const ScoreTable scores = read_score_table(path);
  for (const auto& [layer, load] : scores.token) {
    if (!model.is_moe(layer) || static_cast<int>(load.size()) != model.num_experts) {
      fail(ErrorCode::kOtherScores,
           "{}: the scores are of another model: layer {} with {} experts.", path.string(), layer,
           load.size());
    }
  }
  std::map<int, LayerLoad> layers = frozen_layers(scores.token);
  for (const std::string& name : trainable.names()) {
    const TensorEntry* tensor = model.tensors.find(name);
    if (!tensor || tensor->expert < 0 || layers.count(tensor->layer) == 0) continue;
    layers[tensor->layer].trainable[tensor->expert] = true;
  }
  return layers;
}

}  // namespace

ExpertRanks expert_ranks(const Recipe& recipe, const ModelInfo& model,
                         const TrainableSet& trainable, Comm& world) {
  const ParallelOptions& parallel = recipe.parallel;
  const bool balanced = parallel.expert_placement == "balanced";
  if ((!balanced && parallel.frozen_replicas == 0) || parallel.ep == 1) return {};
  // One rank decides: the file of another node might be an older one.
  const std::string decided = from_rank_0(world, "placement of experts", [&] {
    nlohmann::json found = nlohmann::json::array();
    const auto layers = layer_loads(RunPaths(recipe.output).scores(), model, trainable);
    ExpertRanks ranks;
    if (balanced) {
      ranks = balanced_layers(layers, parallel.ep, parallel.frozen_replicas, model.router_groups);
    } else {
      for (const auto& [layer, load] : layers) {
        ranks[layer] = contiguous_layer(model.num_experts, parallel.ep);
        add_replicas(load, parallel.frozen_replicas, ranks[layer]);
      }
    }
    for (const auto& [layer, placement] : ranks) {
      found.push_back({layer, placement.rank_of, placement.replicated, placement.token_cost});
    }
    return found.dump();
  });
  ExpertRanks ranks;
  for (const auto& layer : nlohmann::json::parse(decided)) {
    ranks[layer[0].get<int>()] = {layer[1].get<std::vector<int>>(),
                                  layer[2].get<std::vector<int>>(),
                                  layer[3].get<std::vector<double>>()};
  }
  return ranks;
}

}  // namespace sutor
