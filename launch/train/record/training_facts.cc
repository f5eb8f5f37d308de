#include "launch/train/record/training_facts.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <algorithm>
#include <map>

#include "csrc/base/directory.h"
#include "csrc/base/process/host.h"
#include "csrc/base/text/json.h"
#include "csrc/ops/cpu/kernel_level.h"
#include "csrc/ops/device/memory.h"
#include "launch/data/packing_report.h"
#include "launch/data/token_stores.h"

namespace sutor {
namespace {

using Json = nlohmann::ordered_json;

Json trainable_facts(const ModelInfo& model, const TrainableSet& trainable) {
  struct Count {
    int64_t tensors = 0, parameters = 0, trained_tensors = 0, trained_parameters = 0;
  };
  std::map<std::string, Count> roles;
  Count all;
  for (const TensorEntry& entry : model.tensors.entries()) {
    const int64_t n = num_elements(entry.shape);
    const bool trains = trainable.contains(entry.name);
    for (Count* count : {&all, &roles[std::string(name_of(entry.role))]}) {
      count->tensors += 1;
      count->parameters += n;
      count->trained_tensors += trains ? 1 : 0;
      count->trained_parameters += trains ? n : 0;
    }
  }
  const auto json = [](const Count& count) {
    return Json{{"tensors", count.tensors},
                {"parameters", count.parameters},
                {"trained_tensors", count.trained_tensors},
                {"trained_parameters", count.trained_parameters}};
  };
  Json facts = json(all);
  int64_t experts = 0;
  for (const auto& [layer, ids] : trainable.experts()) {
    experts += static_cast<int64_t>(ids.size());
  }
  facts["trained_experts"] = experts;
  for (const auto& [role, count] : roles) facts["roles"][role] = json(count);
  return facts;
}

Json model_facts(const Recipe& recipe, const ModelInfo& model) {
  Json adapters = Json::array();
  for (const std::string& adapter : recipe.model.adapters) {
    adapters.push_back(real_path(adapter).string());
  }
  return {{"path", real_path(recipe.model.path).string()},
          {"adapters", adapters},
          {"family", model.family},
          {"dtype", recipe.model.dtype},
          {"layers", model.num_layers},
          {"moe_layers", std::count(model.moe_layer.begin(), model.moe_layer.end(), true)},
          {"experts", model.num_experts},
          {"top_k", model.top_k}};
}

// Of each set: the store that was trained or evaluated on.
Json set_facts(const Recipe& recipe) {
  Json sets = Json::array();
  for (const auto& [use, list] :
       {std::pair("training", &recipe.data.train), std::pair("evaluation", &recipe.data.eval)}) {
    for (const DataSource& source : *list) {
      sets.push_back({{"use", use},
                      {"name", data_set_name(source)},
                      {"path", real_path(token_store_path(recipe, source)).string()}});
    }
  }
  return sets;
}

// The expert-parallel rank of every expert, by layer. One such rank has them all: nothing to say.
Json placement_facts(const Session& session, const ModelInfo& model) {
  const ExpertPlacement& placement = session.parallel().placement();
  Json rank_of = Json::object();
  for (int layer = 0; placement.ep() > 1 && layer < model.num_layers; ++layer) {
    if (!model.is_moe(layer)) continue;
    Json& ranks = rank_of[std::to_string(layer)] = Json::array();
    for (int e = 0; e < model.num_experts; ++e) ranks.push_back(placement.ep_rank_of(layer, e));
  }
  return {{"ep", placement.ep()}, {"rank_of", rank_of}};
}

}  // namespace

nlohmann::ordered_json training_facts(const Recipe& recipe, const ModelInfo& model,
                                      const TrainableSet& trainable, Session& session,
                                      const nlohmann::json& provenance, const Digest& base,
                                      const PackingReport& data, int64_t from_step,
                                      int64_t total_steps) {
  std::error_code ignored;
  nlohmann::ordered_json facts = {
      {"program", provenance},
      {"folder", std::filesystem::current_path(ignored).string()},
      {"recipe", recipe.file},
      {"output", real_path(recipe.output).string()},
      {"machine", machine_facts()},
      {"ranks", session.parallel().world().size()},
      {"threads", at::get_num_threads()},
      {"layout", session.parallel().layout().describe()},
      {"device", session.device_text()},
      {"kernels", ops::kernel_level()},
      {"libraries", {{"torch", TORCH_VERSION}}},
      {"model", model_facts(recipe, model)},
      {"base_digest", base.text()},
      {"trains", trainable_facts(model, trainable)},
      {"data", {{"sets", set_facts(recipe)}, {"packing", packing_text(recipe.data, data)}}},
      {"placement", placement_facts(session, model)},
      {"from_step", from_step},
      {"total_steps", total_steps}};
  if (recipe.esft.config) facts["expert_config"] = real_path(*recipe.esft.config).string();
  return facts;
}

nlohmann::ordered_json rank_facts(Session& session, const Optimizer& optimizer) {
  Comm& world = session.parallel().world();
  int64_t state = optimizer.bytes(), frozen = 0;
  for (const FlatBuffer* buffer : session.store().buffers()) state += buffer->bytes();
  for (const ShardValues& shard : session.store().frozen_tensors()) {
    frozen += static_cast<int64_t>(shard.values.nbytes());
  }
  const ops::MemoryUse use = ops::memory_use(session.store().device());
  const auto& at = session.parallel().coordinates();
  const Json own = {{"rank", world.rank()},
                    {"host", host_name()},
                    {"pp", at.pp},
                    {"dp", at.dp},
                    {"ep", at.ep},
                    {"trained_bytes", state},
                    {"frozen_bytes", frozen},
                    {"peak_bytes", use.peak}};
  Json all = Json::array();
  for (const std::string& text : world.all_gather_text(dump_json(own), "facts of the ranks")) {
    all.push_back(Json::parse(text));
  }
  return all;
}

}  // namespace sutor
