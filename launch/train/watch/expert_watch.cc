#include "launch/train/watch/expert_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "launch/train/watch/load_picture.h"

namespace sutor {
namespace {

using Json = nlohmann::ordered_json;

DriftWatch::LayerTraffic traffic_of_all(const ExpertScores& scores,
                                        const std::map<int, std::vector<int>>& trained) {
  DriftWatch::LayerTraffic traffic;
  for (const auto& [layer, ids] : trained) traffic[layer] = traffic_of(scores, layer, ids);
  return traffic;
}

Traffic sum_of(const DriftWatch::LayerTraffic& layers) {
  Traffic sum;
  for (const auto& [layer, traffic] : layers) sum.add(traffic);
  return sum;
}

// `scored` null: nothing to compare with.
Json share_json(const Traffic& now, const Traffic* scored) {
  Json json = {{"share", now.share()}};
  if (scored) json["share_at_scoring"] = scored->share();
  json["gate_share"] = now.gate_share();
  if (scored) json["gate_share_at_scoring"] = scored->gate_share();
  return json;
}

Json layer_json(const ExpertScores& scores, const LayerLoad& load) {
  const std::span<const int64_t> counts = scores.counts(load.layer);
  return {{"layer", load.layer},
          {"tokens", load.tokens},
          {"load_max_over_mean", load.max_over_mean},
          {"busiest", load.busiest},
          {"load_p95_over_mean", load.p95_over_mean},
          {"cv", load.cv},
          {"entropy", load.entropy},
          {"dead", load.dead},
          {"counts", std::vector<int64_t>(counts.begin(), counts.end())}};
}

double mean_of(const std::vector<LayerLoad>& loads, double LayerLoad::*value) {
  double sum = 0;
  for (const LayerLoad& load : loads) sum += load.*value;
  return sum / static_cast<double>(loads.size());
}

}  // namespace

ExpertWatch::ExpertWatch(std::map<int, std::vector<int>> trained,
                         const std::optional<ExpertScores>& scored, const Options& options)
    : trained_(std::move(trained)),
      scored_(scored ? traffic_of_all(*scored, trained_) : DriftWatch::LayerTraffic()),
      drift_(scored_),
      options_(options) {}

ExpertMetrics ExpertWatch::observe(int64_t step, const ExpertScores& counts) {
  std::vector<LayerLoad> loads;
  for (const int layer : counts.layers()) loads.push_back(layer_load(counts, layer));
  const auto most = std::max_element(loads.begin(), loads.end(), [](const auto& a, const auto& b) {
    return a.max_over_mean < b.max_over_mean;
  });
  size_t dead = 0;
  for (const LayerLoad& load : loads) dead += load.dead.size();

  ExpertMetrics metrics;
  metrics.text = fmt::format("load {:.1f} (L{}:e{}) dead {}", most->max_over_mean, most->layer,
                             most->busiest, dead);
  metrics.json = {{"load_max_over_mean", most->max_over_mean},
                  {"layer", most->layer},
                  {"expert", most->busiest},
                  {"load_p95_over_mean", mean_of(loads, &LayerLoad::p95_over_mean)},
                  {"cv", mean_of(loads, &LayerLoad::cv)},
                  {"entropy", mean_of(loads, &LayerLoad::entropy)},
                  {"dead", dead}};
  const DriftWatch::LayerTraffic traffic = traffic_of_all(counts, trained_);
  const Traffic now = sum_of(traffic), before = sum_of(scored_);
  const bool compares = !scored_.empty();
  warning_.reset();
  if (!trained_.empty()) {
    metrics.json.update(share_json(now, compares ? &before : nullptr));
    metrics.text += fmt::format(" share {:.0f}%", 100 * now.share());
    if (compares) metrics.text += fmt::format(" (was {:.0f}%)", 100 * before.share());
    warning_ = drift_.observe(traffic);
    if (compares) metrics.json["drifted_layers"] = drift_.drifted();
  }
  for (const auto& [key, value] : metrics.json.items()) {
    const bool names = key == "layer" || key == "expert" || key == "drifted_layers";
    if (!names) metrics.scalars.emplace_back("experts/" + key, value.get<double>());
  }
  if (options_.by_layer) {
    Json& layers = metrics.json["layers"] = Json::array();
    for (const LayerLoad& load : loads) {
      Json& of = layers.emplace_back(layer_json(counts, load));
      if (trained_.count(load.layer) == 0) continue;
      of["trained"] = trained_.at(load.layer);
      of.update(share_json(traffic.at(load.layer), compares ? &scored_.at(load.layer) : nullptr));
    }
  }
  const int64_t every = options_.picture_every;
  if (every > 0 && (step % every == 0 || step == options_.last_step)) {
    draw_load(counts, trained_, metrics);
  }
  return metrics;
}

}  // namespace sutor
