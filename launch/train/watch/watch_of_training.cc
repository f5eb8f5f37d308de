#include "launch/train/watch/watch_of_training.h"

#include <fmt/format.h>

#include <algorithm>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/log/run_paths.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace {

constexpr int64_t kPictures = 50;  // of a training, at most, but for the last step's

int64_t moe_layers(const ModelInfo& model) {
  return std::count(model.moe_layer.begin(), model.moe_layer.end(), true);
}

// A training is not lost for scores that are not there any more: it then has nothing to compare.
std::optional<ExpertScores> scores_of(const Recipe& recipe, const ModelInfo& model,
                                      const std::string& base_digest) {
  const std::filesystem::path path = RunPaths(recipe.output).scores();
  if (recipe.esft.score.count != "all" || !is_there(path)) return {};
  try {
    StoredScores stored = read_scores(path);
    const ExpertScores& scores = stored.scores;
    const bool fits = scores.num_experts() == model.num_experts && scores.top_k() == model.top_k &&
                      static_cast<int64_t>(scores.layers().size()) == moe_layers(model) &&
                      std::all_of(scores.layers().begin(), scores.layers().end(),
                                  [&](int layer) { return model.is_moe(layer); });
    if (fits && stored.origin.base_digest == base_digest) return std::move(stored.scores);
  } catch (const Error& error) {
    fmt::print(stderr, "note: shares of tokens are not compared with those at scoring: {}\n",
               error.what());
  }
  return {};
}

}  // namespace

bool is_watched(const Recipe& recipe, const ModelInfo& model, int64_t step, int64_t last_step) {
  if (recipe.log.experts == "none" || moe_layers(model) == 0) return false;
  return step % recipe.log.every == 0 || step == last_step;
}

std::unique_ptr<ExpertWatch> watch_of_training(const Recipe& recipe, const ModelInfo& model,
                                               const TrainableSet& trainable,
                                               const std::string& base_digest, int64_t last_step) {
  std::map<int, std::vector<int>> trained = trainable.experts();
  size_t experts = 0;
  for (const auto& [layer, ids] : trained) experts += ids.size();
  const int64_t all = moe_layers(model) * model.num_experts;
  if (static_cast<int64_t>(experts) == all) trained.clear();
  const int64_t lines = std::max<int64_t>(1, last_step / recipe.log.every);
  const ExpertWatch::Options options{
      .by_layer = recipe.log.experts == "detailed",
      .picture_every =
          recipe.log.tensorboard ? recipe.log.every * ((lines + kPictures - 1) / kPictures) : 0,
      .last_step = last_step};
  const auto scored = trained.empty() ? std::nullopt : scores_of(recipe, model, base_digest);
  return std::make_unique<ExpertWatch>(std::move(trained), scored, options);
}

}  // namespace sutor
