#include "launch/report/run_facts.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "launch/log/run_record.h"
#include "launch/report/receipt.h"
#include "layers/esft/score_records.h"
#include "parallel_state/model/expert_config.h"

namespace sutor {
namespace {

using Json = nlohmann::ordered_json;

Json scores_facts(const ScoreTable& table) {
  Json layers = Json::object();
  for (const auto& [layer, shares] : table.token) layers[std::to_string(layer)] = shares;
  return {{"num_experts", table.num_experts}, {"tokens", table.num_tokens}, {"layers", layers}};
}

Json selection_facts(const std::filesystem::path& path) {
  Json layers = Json::object();
  for (const auto& [layer, ids] : read_expert_config(path).experts) {
    layers[std::to_string(layer)] = ids;
  }
  return layers;
}

// Of each expert-parallel rank: its experts' share of the selections, all layers together, over
// what an even division would give it.
Json placement_facts(const nlohmann::json& placement, const ScoreTable& scores) {
  const auto ranks = placement.at("ep").get<size_t>();
  if (ranks < 2 || ranks > 4096) return nullptr;
  std::vector<double> load(ranks, 0);
  double all = 0;
  for (const auto& [key, owners] : placement.at("rank_of").items()) {
    const auto layer = scores.token.find(std::stoi(key));
    if (layer == scores.token.end()) continue;
    for (size_t e = 0; e < layer->second.size() && e < owners.size(); ++e) {
      load.at(owners[e].get<size_t>()) += layer->second[e];
      all += layer->second[e];
    }
  }
  if (all <= 0) return nullptr;
  for (double& value : load) value *= static_cast<double>(ranks) / all;
  return load;
}

}  // namespace

nlohmann::ordered_json run_facts(const RunPaths& paths, nlohmann::ordered_json receipt) {
  Json problems = Json::array();
  const auto try_to = [&](const std::function<void()>& body) {
    try {
      body();
    } catch (const Error& error) {
      problems.push_back(error.what());
    } catch (const std::exception& error) {  // of a record that is not ours
      problems.push_back(run_record_path(paths).string() + ": " + error.what());
    }
  };
  Json facts = {{"receipt", std::move(receipt)}, {"folder", real_path(paths.output).string()}};
  for (const char* key : {"recipe_text", "data", "scores", "selection", "placement"}) {
    facts[key] = nullptr;
  }
  try_to([&] {
    if (is_file(paths.resolved_recipe())) facts["recipe_text"] = read_file(paths.resolved_recipe());
  });
  const nlohmann::json record = read_run_record(run_record_path(paths));
  nlohmann::json start = nlohmann::json::object();
  if (!record["starts"].empty() && record["starts"].back().is_object()) {
    start = record["starts"].back();
  }
  if (start.contains("data")) facts["data"] = start["data"];
  try_to([&] {
    if (!is_file(paths.scores())) return;
    const ScoreTable scores = read_score_table(paths.scores());
    facts["scores"] = scores_facts(scores);
    if (start.contains("placement")) {
      facts["placement"] = placement_facts(start["placement"], scores);
    }
  });
  try_to([&] {
    const std::filesystem::path given = start.value("expert_config", std::string());
    const std::filesystem::path config = given.empty() ? paths.expert_config() : given;
    if (is_file(config)) facts["selection"] = selection_facts(config);
  });
  facts["problems"] = problems;
  return facts;
}

}  // namespace sutor
