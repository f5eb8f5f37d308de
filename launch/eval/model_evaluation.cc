#include "launch/eval/model_evaluation.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "csrc/base/error.h"
#include "launch/checkpoints/apply_checkpoint.h"
#include "launch/eval/evaluate.h"
#include "launch/eval/set_scores.h"
#include "launch/log/metrics_log.h"
#include "launch/log/run_paths.h"
#include "launch/model/session.h"
#include "recipes/data_sets.h"

namespace sutor {
namespace {

ExpertMask mask_of(const std::filesystem::path& path, const ModelInfo& model, int layer_base) {
  const ExpertConfig config =
      check_expert_config(read_expert_config(path), model, layer_base, path.string());
  ExpertMask mask;
  for (const auto& [layer, ids] : config.experts) {
    if (model.num_experts - static_cast<int>(ids.size()) < model.top_k) {
      fail(ErrorCode::kTooFewExperts,
           "{}: layer {} masks {} of {} experts, but every token needs {}", path.string(), layer,
           ids.size(), model.num_experts, model.top_k);
    }
    at::Tensor allowed = at::ones({model.num_experts}, at::kFloat);
    for (const int id : ids) allowed[id] = 0.0f;
    mask[layer] = allowed;
  }
  return mask;
}

class Evaluator {
 public:
  Evaluator(const Recipe& recipe, Comm& world, const EvaluationRequest& request,
            const ChosenCheckpoint& chosen)
      : recipe_(recipe),
        world_(world),
        request_(request),
        chosen_(chosen),
        source_(recipe.model),
        stores_(recipe, source_.info.vocab_size, /*train=*/false),
        sets_(make_eval_sets(recipe, stores_)),
        mask_(request.masked ? mask_of(*request.masked, source_.info, recipe.esft.layer_base)
                             : ExpertMask()),
        session_(source_, world, session_options(recipe, world)) {}

  std::vector<EvaluatedModel> run() {
    check_source(source_, world_);
    std::vector<EvaluatedModel> models;
    const bool trained = !chosen_.path.empty();
    if (request_.base || !trained) models.push_back(measure("base", recipe_.model.path));
    if (!trained) return models;
    apply_checkpoint(chosen_, session_);
    models.push_back(measure("trained", chosen_.path.string()));
    return models;
  }

 private:
  EvaluatedModel measure(const std::string& name, const std::string& what) {
    EvaluatedModel model{name, what, {}};
    std::vector<EvalMetrics> held_out;  // of each training set
    for (size_t i = 0; i < sets_.size(); ++i) {
      const EvalMetrics metrics = evaluate(session_.model(), sets_[i], 0, mask_);
      if (!recipe_.data.eval[i].held_out_of.empty()) held_out.push_back(metrics);
      model.sets.push_back({sets_[i].name, metrics.tokens, metrics.values});
      progress(fmt::format("{} {}: loss {:.4f}", name, sets_[i].name, metrics.values.at("loss")));
      if (recipe_.data.eval[i].scorer) {
        score(name, recipe_.data.eval[i], model.sets.back());
      }
    }
    const std::string together = held_out_together(recipe_);
    if (!together.empty()) {
      const EvalMetrics all = taken_together(together, held_out);
      model.sets.push_back({together, all.tokens, all.values});
    }
    return model;
  }

  void score(const std::string& model, const DataSource& source, EvaluatedSet& into) {
    const auto out = request_.folder / model / (into.set + ".jsonl");
    const SetScores scores = score_set(recipe_, session_, source, out);
    const TextResult& result = scores.generated;
    progress(fmt::format(
        "{} {}: {} completions, {} tokens in {:.1f} s ({:.0f} tok/s), {} stopped "
        "by themselves, {} prompts too long",
        model, into.set, result.prompts, result.generation.new_tokens, result.generation.seconds,
        static_cast<double>(result.generation.new_tokens) / result.generation.seconds,
        result.stopped, result.dropped));
    for (const auto& [scorer, mean] : scores.means) into.values[scorer] = mean;
  }

  void progress(const std::string& line) const {
    if (world_.rank() != 0) return;
    fmt::print(stderr, "{}\n", line);
  }

  const Recipe& recipe_;
  Comm& world_;
  const EvaluationRequest& request_;
  const ChosenCheckpoint& chosen_;
  ModelSource source_;
  TokenStores stores_;
  std::vector<EvalSet> sets_;
  ExpertMask mask_;
  Session session_;  // last: it loads the weights
};

void check_request(const Recipe& recipe, const EvaluationRequest& request) {
  if (recipe.data.eval.empty()) {
    fail(ErrorCode::kMissingKey,
         "{}: `data.eval` is required: a list like [{{path: rows.jsonl, name: task}}]",
         recipe.file);
  }
  const bool scored = std::any_of(recipe.data.eval.begin(), recipe.data.eval.end(),
                                  [](const DataSource& set) { return set.scorer.has_value(); });
  if (request.masked && scored) {
    fail(ErrorCode::kBadArgument, "--mask is for losses: sets with a scorer generate text");
  }
}

}  // namespace

std::vector<EvaluatedModel> evaluate_models(const Recipe& recipe, Comm& world,
                                            const EvaluationRequest& request) {
  check_request(recipe, request);
  const ChosenCheckpoint chosen = choose_for_all(world, RunPaths(recipe.output).checkpoints(),
                                                 request.checkpoint, WorseThanBase::kTold);
  if (world.rank() == 0) {
    fmt::print(stderr, "{}\n",
               checkpoint_line(chosen, recipe.model.path, request.masked.value_or("").string()));
  }
  const std::vector<EvaluatedModel> models = Evaluator(recipe, world, request, chosen).run();
  world.barrier("evaluation done");
  return models;
}

std::string evaluation_table(const std::vector<EvaluatedModel>& models) {
  const bool both = models.size() > 1;
  std::string table = fmt::format("{:<20} {:<12} {:>12}", "set", "measure", models.front().name);
  if (both) table += fmt::format(" {:>12} {:>12}", models.back().name, "change");
  table += "\n";
  for (size_t s = 0; s < models.front().sets.size(); ++s) {
    const EvaluatedSet& set = models.front().sets[s];
    for (const auto& [measure, value] : set.values) {
      table += fmt::format("{:<20} {:<12} {:>12.4f}", set.set, measure, value);
      if (both) {
        const double after = models.back().sets[s].values.at(measure);
        table += fmt::format(" {:>12.4f} {:>+12.4f}", after, after - value);
      }
      table += "\n";
    }
  }
  return table;
}

nlohmann::json evaluation_json(const std::vector<EvaluatedModel>& models) {
  nlohmann::json json = nlohmann::json::object();
  for (const EvaluatedModel& model : models) {
    nlohmann::json sets = nlohmann::json::object();
    for (const EvaluatedSet& set : model.sets) {
      sets[set.set] = set.values;
      sets[set.set]["targets"] = set.targets;
    }
    json[model.name] = {{"of", model.what}, {"sets", sets}};
  }
  return json;
}

}  // namespace sutor
