#include "launch/plan/run_plan.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "checkpoint/partial/partial_checkpoint.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/ops/device/planned_device.h"
#include "launch/log/run_paths.h"
#include "launch/model/expert_ranks.h"
#include "launch/plan/planned_shares.h"
#include "launch/train/model_flops.h"
#include "launch/train/planned_training.h"
#include "layers/esft/score_records.h"
#include "layers/esft/select_experts.h"
#include "layers/optim/optimizer.h"
#include "parallel_state/layout/stage_costs.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {
namespace {

constexpr size_t kMostRanks = 8;  // that are tried for the one that needs most
constexpr int64_t kUnknownSteps = 1000;
struct Selected {
  ExpertConfig config;
  std::string from;
  bool is_estimate = false;
};

// Published selections by token score 0.2 take 3 to 8% of 64 or 128 experts a layer (the authors'
// and the AWS sample's configs), those by gate score 0.1 a quarter more: fewer than the share
// top_p of them, which level routing would ask for, as tasks prefer some. A layer of few experts
// has no such choice.
constexpr double kPreferred = 0.4;
constexpr int kFewExperts = 16;

// As many experts a layer as such a selection would take, spread over the ids.
Selected estimated_config(const Recipe& recipe, const ModelInfo& model) {
  const SelectOptions& select = recipe.esft.select;
  Selected selected{{}, "", true};
  selected.config.shared_experts = select.shared_experts;
  selected.config.non_expert_modules = select.non_expert_modules;
  const double top_p = select.top_p.value_or(select.method == "gate" ? 0.1 : 0.2);
  const bool by_token = select.method != "gate" && model.num_experts > kFewExperts;
  double count = std::ceil((by_token ? kPreferred : 1.0) * top_p * model.num_experts);
  if (select.method == "top_n" || (select.method == "random" && select.n)) {
    count = select.n.value_or(1);
  } else if (select.method == "budget") {
    count = std::ceil(select.budget.value_or(1) * model.num_experts);
  } else if (select.method == "none") {
    count = 0;
  }
  const int each =
      std::clamp(std::max(static_cast<int>(count), select.min_per_layer), 0, model.num_experts);
  for (int layer = 0; layer < model.num_layers && count > 0; ++layer) {
    const auto& wanted = select.layers;
    if (!model.is_moe(layer) ||
        (wanted && std::find(wanted->begin(), wanted->end(), layer) == wanted->end())) {
      continue;
    }
    std::vector<int>& ids = selected.config.experts[layer];
    for (int i = 0; i < each; ++i) ids.push_back(i * model.num_experts / each);
  }
  selected.from =
      fmt::format("no scores yet: assumed {} of {} experts a layer", each, model.num_experts);
  return selected;
}

Selected selected_experts(const Recipe& recipe, const ModelInfo& model) {
  if (!needs_expert_config(recipe)) return {{}, "train.method " + recipe.train.method, false};
  const RunPaths paths(recipe.output);
  if (recipe.esft.config || is_there(paths.expert_config())) {
    const auto path =
        recipe.esft.config ? std::filesystem::path(*recipe.esft.config) : paths.expert_config();
    const int base = recipe.esft.config ? recipe.esft.layer_base : 0;
    return {check_expert_config(read_expert_config(path), model, base, path.string()),
            path.string(), false};
  }
  if (is_there(paths.scores())) {
    const ScoreTable scores = read_score_table(paths.scores());
    return {check_expert_config(select_experts(recipe.esft.select, scores).config, model, 0,
                                paths.scores().string()),
            "selected by " + paths.scores().string(), false};
  }
  return estimated_config(recipe, model);
}

// Of one rank, before any dry run: what lies there, and the rows that its experts get.
struct RankLoad {
  int rank = 0;
  double resident = 0, rows = 0;
};

class RankLoads {
 public:
  RankLoads(const PlanBasis& basis, const TrainPlan& plan, const ExpertRanks& expert_ranks,
            const ops::RoutingShares& shares)
      : layout_(basis.recipe.parallel, basis.world),
        placement_(plan.model.num_experts, basis.recipe.parallel, basis.world, expert_ranks) {
    const StageMap stages = make_stage_map(
        plan.model, basis.recipe.parallel.pp, basis.recipe.parallel.stages,
        [&](const TensorEntry& entry) { return plan.trainable.contains(entry.name); });
    // The last rank of each place in pp and ep: where sizes do not divide, the last ones have more.
    for (int rank = 0; rank < layout_.world_size(); ++rank) {
      const RankCoordinates at = layout_.coordinates(rank);
      loads_[{at.pp, at.ep}].rank = rank;
    }
    const double frozen = basis.recipe.model.dtype == "fp32" ? 4 : 2;
    for (const TensorEntry& entry : plan.model.tensors.entries()) {
      if (entry.expert < 0) continue;  // the same on all ranks of a stage
      const int ep = placement_.ep_rank_of(entry.layer, entry.expert);
      RankLoad& load = loads_[{stages.stage_of(entry.layer), ep}];
      const auto elements = static_cast<double>(num_elements(entry.shape));
      load.resident += elements * (plan.trainable.contains(entry.name) ? frozen + 16 : frozen);
      if (entry.projection != "down" || entry.kind() != "weight") continue;
      const auto found = shares.find(entry.layer);
      load.rows += found == shares.end() ? 1.0 / plan.model.num_experts
                                         : found->second[static_cast<size_t>(entry.expert)];
    }
  }

  // For each stage the ranks with most of either; of many stages those at the ends.
  std::vector<int> heaviest() const {
    std::set<int> ranks;
    for (int stage = 0; stage < layout_.pp(); ++stage) {
      const bool tried =
          stage == 0 || stage + 1 == layout_.pp() || layout_.pp() <= 3 || stage == heaviest_stage();
      if (!tried) continue;
      for (const int rank : {most(stage, &RankLoad::resident), most(stage, &RankLoad::rows)}) {
        ranks.insert(rank);
        // The first of a context group has the last chunk of a document, which sees all keys.
        ranks.insert(layout_.group_of("cp", rank).front());
      }
    }
    std::vector<int> list(ranks.begin(), ranks.end());
    if (list.size() > kMostRanks) list.resize(kMostRanks);
    return list;
  }

 private:
  int most(int stage, double RankLoad::*what) const {
    const RankLoad* best = nullptr;
    for (const auto& [place, load] : loads_) {
      if (place.first == stage && (!best || load.*what > best->*what)) best = &load;
    }
    return best ? best->rank : 0;
  }
  int heaviest_stage() const {
    std::map<int, double> sums;
    for (const auto& [place, load] : loads_) sums[place.first] += load.resident;
    return std::max_element(sums.begin(), sums.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; })
        ->first;
  }

  RankLayout layout_;
  ExpertPlacement placement_;
  std::map<std::pair<int, int>, RankLoad> loads_;  // by (pp, ep)
};

RankNeeds worst(const PlanBasis& basis, const RunPlan& plan, const ExpertRanks& expert_ranks,
                const std::vector<int>& ranks, const ops::RoutingShares& shares,
                const ScoredRouting& scored) {
  RankNeeds worst;
  for (const BatchesInFlight& in_flight : plan.data.train) {
    DryRunInput input{.recipe = basis.recipe,
                      .plan = plan.training,
                      .family = basis.family,
                      .config = basis.config,
                      .expert_ranks = expert_ranks,
                      .world = basis.world,
                      .train = in_flight.batches,
                      .eval = plan.data.eval,
                      .peer_tokens = in_flight.peer_tokens};
    int64_t tokens = 0;
    for (const MicroBatch& batch : in_flight.batches) {
      tokens = std::max(tokens, static_cast<int64_t>(batch.ids.size()));
    }
    for (const int rank : ranks) {
      input.shares = shares_at_most(
          {.recipe = basis.recipe,
           .plan = plan.training,
           .expert_ranks = expert_ranks,
           .world = basis.world,
           .rank = rank,
           .batches = plan.data.steps.value_or(kUnknownSteps) * plan.data.micro_batches_a_step},
          tokens, shares, scored);
      const RankNeeds needs = dry_run(input, rank);
      if (needs.peak > worst.peak) worst = needs;
    }
  }
  return worst;
}

void count_parameters(RunPlan& plan) {
  for (const TensorEntry& entry : plan.training.model.tensors.entries()) {
    const int64_t n = num_elements(entry.shape);
    PlannedParameters& of_class = plan.classes[std::string(name_of(entry.role))];
    of_class.all += n;
    plan.parameters += n;
    if (plan.training.trainable.contains(entry.name)) of_class.trained += n;
  }
}

void count_experts(const PlanBasis& basis, const ExpertRanks& expert_ranks, RunPlan& plan) {
  const ModelInfo& model = plan.training.model;
  if (model.num_experts == 0) return;
  const ExpertPlacement placement(model.num_experts, basis.recipe.parallel, basis.world,
                                  expert_ranks);
  plan.experts_a_rank = placement.num_local_experts();
  std::vector<int> trained(static_cast<size_t>(placement.ep()), 0);
  for (const auto& [layer, ids] : plan.training.trainable.experts()) {
    for (const int id : ids) ++trained[static_cast<size_t>(placement.ep_rank_of(layer, id))];
  }
  plan.trained_least = *std::min_element(trained.begin(), trained.end());
  plan.trained_most = *std::max_element(trained.begin(), trained.end());
}

void count_checkpoints(const PlanBasis& basis, RunPlan& plan) {
  const Recipe& recipe = basis.recipe;
  std::vector<IndexedTensor> tensors;
  for (const std::string& name : plan.training.trainable.names()) {
    tensors.push_back({name, plan.training.model.tensors.find(name)->shape});
  }
  const OptimizerState state = make_optimizer(recipe.optim, recipe.train.seed, {})->declared();
  plan.checkpoint_bytes = estimate_checkpoint_bytes(tensors, state.kinds);
  const int64_t at_a_time = recipe.checkpoint.keep + (recipe.data.eval.empty() ? 1 : 2);
  const int64_t every = recipe.checkpoint.every;
  const int64_t saves = plan.data.steps && every > 0 ? *plan.data.steps / every + 1 : 1;
  plan.most_checkpoints = plan.data.steps ? std::min(saves, at_a_time) : at_a_time;
}

// What the utilisation of a device counts as well, and the attention that the dry run met.
double flops_per_token(const RunPlan& plan, int64_t tokens_of_dry_run, int tp_cp) {
  const double attention = plan.level.attention_products * tp_cp /
                           static_cast<double>(std::max<int64_t>(1, tokens_of_dry_run));
  return training_flops_per_token(plan.training.model, plan.training.trainable) + 2 * attention;
}

}  // namespace

RunPlan make_run_plan(const PlanBasis& basis) {
  const Recipe& recipe = basis.recipe;
  at::set_num_threads(basis.threads);
  ops::plan_for_gpu(basis.gpu);
  const ExpertPlacement checked(basis.model.num_experts, recipe.parallel, basis.world);
  const RankLayout layout(recipe.parallel, basis.world);
  check_tensor_parallel(basis.model, recipe.parallel);
  RunPlan plan;
  plan.layout = layout.describe();
  plan.dp = layout.dp();
  plan.world = basis.world;
  Selected selected = selected_experts(recipe, basis.model);
  plan.selection = selected.from;
  plan.is_estimate = selected.is_estimate;
  plan.training = make_train_plan(recipe, basis.model, selected.config);
  plan.data = plan_data(recipe, basis.model.vocab_size, layout, basis.print);
  count_parameters(plan);
  const std::unique_ptr<Comm> alone = make_self_comm();
  const ExpertRanks ranks =
      expert_ranks(recipe, plan.training.model, plan.training.trainable, *alone);
  count_experts(basis, ranks, plan);
  const ScoredRouting scored = scored_routing(recipe, basis.model);
  const auto worst_with = [&](const ops::RoutingShares& shares) {
    const RankLoads loads(basis, plan.training, ranks, shares);
    return worst(basis, plan, ranks, loads.heaviest(), shares, scored);
  };
  plan.level = worst_with({});
  if (!scored.shares.empty()) plan.skewed = worst_with(scored.shares);
  count_checkpoints(basis, plan);
  int64_t tokens = 0;
  if (!plan.data.train.empty()) {
    for (const MicroBatch& batch : plan.data.train.front().batches) {
      tokens += static_cast<int64_t>(batch.ids.size());
    }
    tokens /= basis.recipe.parallel.pp;
  }
  plan.flops_per_token = flops_per_token(plan, tokens, layout.tp() * layout.cp());
  return plan;
}

PlannedRun planned_run(const RunPlan& plan) {
  const RankNeeds& needs = plan.needs();
  PlannedRun run{
      .figures = {.peak_bytes = needs.peak, .parameters = plan.training.trainable.num_parameters()},
      .ranks = plan.world,
      .flops_per_token = plan.flops_per_token};
  for (size_t i = 0; i < ops::kMemoryItems; ++i) {
    run.figures.items[ops::name_of(static_cast<ops::MemoryItem>(i))] = needs.items[i];
  }
  return run;
}

}  // namespace sutor
