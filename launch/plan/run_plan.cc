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
#include "launch/train/model_flops.h"
#include "launch/train/planned_training.h"
#include "layers/esft/score_records.h"
#include "layers/esft/select_experts.h"
#include "layers/optim/optimizer.h"
#include "parallel_state/layout/stage_costs.h"
#include "parallel_state/placement/tensor_shard.h"

namespace sutor {
namespace {

constexpr size_t kMostRanks = 6;   // that are tried for the one that needs most
constexpr double kDeviations = 3;  // standard deviations that shares are raised by

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

ops::RoutingShares shares_of(const Recipe& recipe, const ModelInfo& model) {
  const RunPaths paths(recipe.output);
  if (!is_there(paths.scores())) return {};
  ops::RoutingShares shares;
  for (const auto& [layer, share] : read_score_table(paths.scores()).token) {
    if (model.is_moe(layer) && static_cast<int>(share.size()) == model.num_experts) {
      shares[layer] = share;
    }
  }
  return shares;
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
      ranks.insert(most(stage, &RankLoad::resident));
      ranks.insert(most(stage, &RankLoad::rows));
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

// Micro-batches choose experts at random around their shares: what a group of experts gets of so
// many choices is below this share in all but about one of a thousand.
double with_margin(double share, double choices) {
  if (share <= 0 || share >= 1 || choices <= 0) return share;
  return std::min(1.0, share + kDeviations * std::sqrt(share * (1 - share) / choices));
}

// The shares of a layer with those of `group` raised to what they may be in a micro-batch.
void raise_shares(std::vector<double>& shares, const std::vector<bool>& group, double choices) {
  double share = 0;
  for (size_t e = 0; e < shares.size(); ++e) share += group[e] ? shares[e] : 0;
  const double raised = with_margin(share, choices);
  if (share <= 0 || share >= 1) return;
  for (size_t e = 0; e < shares.size(); ++e) {
    shares[e] *= group[e] ? raised / share : (1 - raised) / (1 - share);
  }
}

// What the experts of a rank, and the trained ones among them, get at most of the choices of a
// micro-batch. `shares`: of the run, empty where they are level.
ops::RoutingShares shares_at_most(const PlanBasis& basis, const TrainPlan& plan,
                                  const ExpertRanks& expert_ranks, int rank, int64_t tokens,
                                  const ops::RoutingShares& shares) {
  const ModelInfo& model = plan.model;
  if (model.num_experts == 0) return {};
  const ExpertPlacement placement(model.num_experts, basis.recipe.parallel, basis.world,
                                  expert_ranks);
  const RankLayout layout(basis.recipe.parallel, basis.world);
  const int ep = layout.coordinates(rank).ep;
  const auto experts = static_cast<size_t>(model.num_experts);
  const double choices =
      static_cast<double>(tokens) * model.top_k * placement.ep() / (layout.tp() * layout.cp());
  ops::RoutingShares result;
  for (int layer = 0; layer < model.num_layers; ++layer) {
    if (!model.is_moe(layer)) continue;
    const auto known = shares.find(layer);
    std::vector<double>& of_layer = result[layer];
    of_layer = known != shares.end() ? known->second
                                     : std::vector<double>(experts, 1.0 / model.num_experts);
    std::vector<bool> own(experts), trained(experts);
    for (size_t e = 0; e < experts; ++e) {
      own[e] = placement.ep_rank_of(layer, static_cast<int>(e)) == ep;
    }
    const auto trains = plan.trainable.experts().find(layer);
    if (trains != plan.trainable.experts().end()) {
      for (const int id : trains->second) {
        trained[static_cast<size_t>(id)] = own[static_cast<size_t>(id)];
      }
    }
    raise_shares(of_layer, own, choices);
    raise_shares(of_layer, trained, choices);
  }
  return result;
}

// As many at a time as the pipeline keeps; a second one where there is one, as gradients that are
// there already are added to.
std::vector<MicroBatch> in_flight(const MicroBatch& batch, int64_t a_step, int stages) {
  const int64_t count = std::min<int64_t>(std::max<int64_t>(1, a_step), stages + 1);
  return std::vector<MicroBatch>(static_cast<size_t>(count), batch);
}

RankNeeds worst(const PlanBasis& basis, const RunPlan& plan, const ExpertRanks& expert_ranks,
                const std::vector<int>& ranks, const ops::RoutingShares& shares) {
  RankNeeds worst;
  for (const MicroBatch& batch : plan.data.train) {
    DryRunInput input{
        .recipe = basis.recipe,
        .plan = plan.training,
        .family = basis.family,
        .config = basis.config,
        .expert_ranks = expert_ranks,
        .world = basis.world,
        .train = in_flight(batch, plan.data.micro_batches_a_step, basis.recipe.parallel.pp),
        .eval = plan.data.eval};
    for (const int rank : ranks) {
      input.shares = shares_at_most(basis, plan.training, expert_ranks, rank,
                                    static_cast<int64_t>(batch.ids.size()), shares);
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
  plan.data = plan_data(recipe, basis.model.vocab_size, layout.dp(), basis.print);
  count_parameters(plan);
  const std::unique_ptr<Comm> alone = make_self_comm();
  const ExpertRanks ranks =
      expert_ranks(recipe, plan.training.model, plan.training.trainable, *alone);
  count_experts(basis, ranks, plan);
  const ops::RoutingShares shares = shares_of(recipe, basis.model);
  plan.level = worst(basis, plan, ranks, RankLoads(basis, plan.training, ranks, {}).heaviest(), {});
  if (!shares.empty()) {
    plan.skewed = worst(basis, plan, ranks,
                        RankLoads(basis, plan.training, ranks, shares).heaviest(), shares);
  }
  count_checkpoints(basis, plan);
  int64_t tokens = 0;
  if (!plan.data.train.empty()) {
    const auto stages = basis.recipe.parallel.pp;
    const auto batches = in_flight(plan.data.train.front(), plan.data.micro_batches_a_step, stages);
    tokens = static_cast<int64_t>(batches.size() * batches.front().ids.size()) / stages;
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
