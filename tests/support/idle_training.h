// A training without anything that computes: a small model's plan and state, saved and resumed.
#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <limits>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "launch/train/checkpointer.h"
#include "layers/models/registry.h"
#include "layers/optim/optimizer.h"
#include "tests/support/temp_dir.h"
#include "tests/support/thread_comm.h"

namespace sutor::testing {

inline const ModelInfo& model() {
  static const ModelInfo info = [] {
    nlohmann::json config = family_named("qwen3_moe").preset("tiny");
    config["num_hidden_layers"] = 2;
    return family_named("qwen3_moe").info(config);
  }();
  return info;
}

// Two experts, a norm and a router train.
inline TrainPlan plan_of(const std::vector<int>& experts = {1, 5}) {
  const ExpertConfig config{.experts = {{1, experts}}};
  TrainableSet trainable = trainable_set(
      model(), config, {.also_train = {"model.norm.weight", "model.layers.0.mlp.gate.weight"}});
  Hasher digest;
  for (const std::string& name : trainable.names()) digest.update(name);
  return {model(), config, std::move(trainable), digest.digest()};
}

inline const Digest kBase = xxh3("the base model");

// A training on one rank, without anything that computes.
class Training {
 public:
  Training(Comm& world, const std::filesystem::path& root, const TrainPlan& plan = plan_of(),
           const Digest& base = kBase)
      : plan_(plan),
        parallel_(
            {}, model(),
            [this](const TensorEntry& entry) { return plan_.trainable.contains(entry.name); },
            world),
        store_(model(), plan_.trainable, parallel_, at::kFloat, false),
        optimizer_(make_optimizer({}, /*seed=*/0, store_.buffers())),
        checkpointer_(root, base, plan_, store_, *optimizer_, {{"program", "sutor"}}) {
    state.best_metric = "task.loss";
    state.data_digest = "xxh3:7";
    state.schedule = "optim.lr: 0.1\n";
  }

  // Every element of every state tensor gets a value made from its place and `seed`.
  void fill(int seed) {
    for_each_element([&](float& value, const std::string& name, int kind, int64_t element) {
      value = static_cast<float>(
          std::sin(seed + 0.1 * static_cast<double>(element) + static_cast<double>(name.size())) +
          kind);
    });
  }
  // The elements that are not what fill(seed) puts there.
  int64_t wrong(int seed) {
    int64_t count = 0;
    for_each_element([&](float& value, const std::string& name, int kind, int64_t element) {
      const auto wanted = static_cast<float>(
          std::sin(seed + 0.1 * static_cast<double>(element) + static_cast<double>(name.size())) +
          kind);
      count += value != wanted;
    });
    return count;
  }
  void save(int64_t step, int keep = 3) {
    state.step = step;
    checkpointer_.save(state, {.keep = keep, .async = false});
  }
  // Returns at once; the state may change then.
  void start_save(int64_t step, CheckpointOptions options = {}) {
    state.step = step;
    checkpointer_.save(state, options);
  }
  Checkpointer& checkpointer() { return checkpointer_; }
  // As the trainer does at the end of a step.
  void end_step(Comm& world) {
    int64_t most[] = {checkpointer_.progress()};
    world.all_reduce(std::span<int64_t>(most), ReduceOp::kMax, "progress");
    checkpointer_.at_step(most[0]);
  }
  // Spoils one element of what this rank saves.
  void spoil() {
    reinterpret_cast<float*>(optimizer_->state("master").front().place.data)[0] =
        std::numeric_limits<float>::infinity();
  }
  bool resume(bool strict = false) { return checkpointer_.resume(state, strict); }
  // As the trainer does after an evaluation that is the best.
  void save_best(int64_t step, double value, int keep = 3) {
    state.best_value = value;
    state.best_step = step;
    save(step, keep);
    checkpointer_.mark_best(step);
  }
  // As the trainer does when it has resumed.
  void point_at_best() { checkpointer_.mark_best(state.best_step); }
  at::Tensor value(const std::string& name) { return store_.get(name).value; }

  TrainState state;

 private:
  template <typename F>
  void for_each_element(F&& f) {
    const char* kinds[] = {"master", "exp_avg", "exp_avg_sq"};
    for (int kind = 0; kind < 3; ++kind) {
      for (const auto& [shard, shard_values] : optimizer_->state(kinds[kind])) {
        ASSERT_TRUE(shard.has_whole_rows());
        auto* data = reinterpret_cast<float*>(shard.data);
        const int64_t first = shard.row_begin * shard.row_elements();
        for (int64_t i = 0; i < shard.num_elements(); ++i) f(data[i], shard.name, kind, first + i);
      }
    }
  }

  TrainPlan plan_;
  ParallelState parallel_;
  ParameterStore store_;
  std::unique_ptr<Optimizer> optimizer_;
  Checkpointer checkpointer_;
};

inline std::vector<int64_t> steps_in(const std::filesystem::path& root) {
  std::vector<int64_t> steps;
  for (const CheckpointEntry& entry : list_checkpoints(root)) steps.push_back(entry.step);
  return steps;
}

inline int64_t pointed_at(const std::filesystem::path& root, std::string_view pointer) {
  const auto entry = read_pointer(root, pointer);
  return entry ? entry->step : -1;
}

}  // namespace sutor::testing
