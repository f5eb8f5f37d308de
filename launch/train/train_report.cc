#include "launch/train/train_report.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "csrc/ops/cpu/kernel_level.h"
#include "csrc/ops/device/memory.h"
#include "launch/checkpoints/unbeaten_base.h"
#include "launch/data/packing_report.h"
#include "launch/data/token_stores.h"
#include "launch/log/metrics_log.h"
#include "launch/train/losses/balance_loss.h"
#include "recipes/data_sets.h"

namespace sutor {
namespace {

// For every name of the plan, in its order: 1 when some shard of the tensor on some rank differs
// from what it was before any training. Collective.
std::vector<int64_t> changed_tensors(const TrainPlan& plan, Session& session,
                                     const Optimizer& optimizer) {
  std::map<std::string, size_t> index;
  for (const std::string& name : plan.trainable.names()) index.emplace(name, index.size());
  std::vector<int64_t> changed(index.size(), 0);
  const at::ScalarType dtype = session.store().dtype();
  optimizer.visit_values([&](const ShardValues& value) {
    // A training starts from weights of the computing dtype.
    const at::Tensor base = at::empty_like(value.values, value.values.options().dtype(dtype));
    fill_in_windows(shard_values(value.place, base),
                    [&](ShardedTensor& window) { session.load_initial(window); });
    if (!base.to(at::kFloat).equal(value.values)) changed[index.at(value.place.name)] = 1;
  });
  session.parallel().world().all_reduce(std::span(changed), ReduceOp::kMax, "changed tensors");
  return changed;
}

// Of a mix: what the first epoch takes of each set.
void print_sources(const Recipe& recipe, const PackingReport& data) {
  const std::vector<DataSource>& train = recipe.data.train;
  if (train.size() < 2 && !is_mixed(train)) return;
  const auto percent = [](int64_t part, int64_t all) {
    return all > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(all) : 0.0;
  };
  for (size_t s = 0; s < train.size(); ++s) {
    const SourceReport& source = data.sources[s];
    const std::string rule = train[s].weight
                                 ? fmt::format("weight {}", *train[s].weight)
                                 : fmt::format("epochs {}", train[s].epochs.value_or(1));
    fmt::print(
        "           {:<15} {} documents an epoch ({}), {:.1f}% of the tokens, {:.1f}% of the "
        "targets\n",
        data_set_name(train[s]), format_count(source.documents), rule,
        percent(source.tokens, data.tokens), percent(source.supervised, data.supervised));
  }
}

}  // namespace

void print_train_banner(const Recipe& recipe, const TrainPlan& plan, Session& session,
                        const Optimizer& optimizer, const PackingReport& data,
                        int64_t total_steps) {
  const ModelInfo& model = plan.model;
  std::map<std::string, std::pair<int64_t, int64_t>> tensors, parameters;  // role -> trained, all
  int64_t trained = 0, all = 0, experts = 0;
  for (const TensorEntry& entry : model.tensors.entries()) {
    const bool trains = plan.trainable.contains(entry.name);
    const std::string role(name_of(entry.role));
    const int64_t n = num_elements(entry.shape);
    tensors[role].first += trains;
    tensors[role].second += 1;
    parameters[role].first += trains ? n : 0;
    parameters[role].second += n;
    trained += trains ? n : 0;
    all += n;
  }
  for (const auto& [layer, ids] : plan.trainable.experts())
    experts += static_cast<int64_t>(ids.size());
  const int64_t moe_layers = std::count(model.moe_layer.begin(), model.moe_layer.end(), true);
  fmt::print("model    {} {}: {} layers ({} MoE x {} experts, top {}), {} parameters, {}\n",
             model.family, recipe.model.path, model.num_layers, moe_layers, model.num_experts,
             model.top_k, format_count(all), recipe.model.dtype);
  fmt::print("layout   {}, {} threads a rank, kernels {}{}\n",
             session.parallel().layout().describe(), at::get_num_threads(), ops::kernel_level(),
             recipe.parallel.expert_placement == "balanced" ? ", experts placed by scores" : "");
  fmt::print("device   {}\n", session.device_text());
  fmt::print("weights  {}\n", weights_text(session));
  fmt::print("trains   {} of {} parameters ({:.2f}%), {} of {} experts; backward down to {}\n",
             format_count(trained), format_count(all), 100.0 * trained / all, experts,
             moe_layers * model.num_experts,
             plan.trainable.lowest_layer() < 0 ? "the embedding"
             : plan.trainable.lowest_layer() >= model.num_layers
                 ? "the head"
                 : fmt::format("layer {}", plan.trainable.lowest_layer()));
  for (const auto& [role, count] : tensors) {
    if (count.first == 0) {
      fmt::print("           {:<15} frozen\n", role);
      continue;
    }
    fmt::print("           {:<15} {} of {} tensors, {} parameters ({:.2f}% of them)\n", role,
               count.first, count.second, format_count(parameters[role].first),
               100.0 * parameters[role].first / parameters[role].second);
  }
  int64_t state_bytes = optimizer.bytes();
  for (const FlatBuffer* buffer : session.store().buffers()) state_bytes += buffer->bytes();
  const ops::MemoryUse use = ops::memory_use(session.store().device());
  fmt::print(
      "memory   trained weights, gradients and optimizer {} on this rank; all tensors {}{}\n",
      format_bytes(state_bytes), format_bytes(use.allocated),
      use.reserved > use.allocated ? ", reserved " + format_bytes(use.reserved) : "");
  fmt::print("data     {}\n", packing_text(recipe.data, data));
  print_sources(recipe, data);
  fmt::print("steps    {} x {} samples, lr {} {}, weight decay {}\n", total_steps,
             recipe.train.global_batch, recipe.optim.lr, recipe.schedule.name,
             recipe.optim.weight_decay);
  if (recipe.train.balance_loss > 0) {
    fmt::print("balance  {}\n", balance_text(recipe, session.source().directory.config()));
  }
  std::fflush(stdout);
}

FrozenWeightsCheck run_frozen_weights_check(const TrainPlan& plan, Session& session,
                                            const Optimizer& optimizer,
                                            const Digest& frozen_before) {
  const ProfileScope scope("frozen-weights check");
  const std::vector<int64_t> changed = changed_tensors(plan, session, optimizer);
  int64_t moved = digest_of(session.store().frozen_tensors()) == frozen_before ? 0 : 1;
  session.parallel().world().all_reduce(std::span(&moved, 1), ReduceOp::kSum,
                                        "frozen-weights check");
  const auto trained = static_cast<int64_t>(changed.size());
  const auto all = static_cast<int64_t>(session.store().model().tensors.size());
  const auto frozen = all - trained;
  return {trained, std::count(changed.begin(), changed.end(), 1), frozen, moved == 0};
}

void print_frozen_weights_check(const FrozenWeightsCheck& check, const TrainState& state,
                                int64_t tokens, int64_t total_steps) {
  fmt::print(
      "check    trained tensors changed {} of {}; frozen tensors {} of {} (digests before and "
      "after)\n",
      check.changed, check.trained, check.frozen_unchanged ? "unchanged" : "CHANGED", check.frozen);
  fmt::print("         {} steps, {} tokens in this run", total_steps, format_count(tokens));
  if (state.best_step >= 0) {
    fmt::print("; best {} {:.6f} at step {}", state.best_metric, state.best_value, state.best_step);
  }
  fmt::print("\n");
  if (const auto unbeaten = unbeaten_base(to_json(state))) {
    fmt::print("         {}: the base is the best\n", unbeaten->text());
  }
  if (check.changed == 0) {
    fmt::print(
        "warning[{}]: nothing was learned: none of the {} trained tensors changed. optim.lr may be "
        "too small for them, the steps too few, or no token reached what trains\n",
        WarningCode::kTrainedUnchanged, check.trained);
  } else if (check.changed < check.trained) {
    fmt::print(
        "warning[{}]: {} trained tensors did not change: an expert that never got a token has "
        "no gradient, and without weight decay stays as it is\n",
        WarningCode::kTrainedUnchanged, check.trained - check.changed);
  }
  std::fflush(stdout);
}

}  // namespace sutor
