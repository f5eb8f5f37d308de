// The estimate is what storage and optimizer then take, in every layout.
#include "launch/preflight/memory_estimate.h"

#include <gtest/gtest.h>

#include "layers/optim/optimizer.h"
#include "layers/storage/parameter_store.h"
#include "recipes/recipe_reader.h"
#include "tests/support/idle_training.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

using testing::model;

TrainPlan plan() {
  const ExpertConfig config{.experts = {{0, {0, 3}}, {1, {1, 5}}}};
  TrainableSet trainable = trainable_set(
      model(), config, {.also_train = {"model.norm.weight", "model.layers.0.mlp.gate.weight"}});
  return {model(), config, std::move(trainable), {}};
}

struct Layout {
  int ranks;
  std::vector<std::string> sets;
};

TEST(MemoryEstimateTest, IsWhatStorageAndOptimizerTake) {
  const Layout layouts[] = {{1, {}},
                            {1, {"model.dtype=bf16"}},
                            {1, {"model.dtype=bf16", "optim.name=adamw_bf16"}},
                            {2, {"parallel.ep=2"}},
                            {2, {"parallel.tp=2", "parallel.etp=2"}},
                            {2, {"parallel.pp=2"}},
                            {2, {}}};
  const TrainPlan trained = plan();
  for (const Layout& layout : layouts) {
    std::vector<std::string> sets = {"model.path=m", "output=o", "model.dtype=fp32"};
    sets.insert(sets.end(), layout.sets.begin(), layout.sets.end());
    const Recipe recipe = recipe_of_sets(sets);
    std::vector<MemoryEstimate> estimates(static_cast<size_t>(layout.ranks));
    std::vector<MemoryEstimate> taken = estimates;
    testing::run_ranks(layout.ranks, [&](Comm& world) {
      const auto rank = static_cast<size_t>(world.rank());
      const ParallelState parallel(
          recipe.parallel, model(),
          [&](const TensorEntry& entry) { return trained.trainable.contains(entry.name); }, world);
      const bool bf16 = recipe.model.dtype == "bf16";
      ParameterStore store(model(), trained.trainable, parallel, bf16 ? at::kBFloat16 : at::kFloat,
                           false);
      const auto optimizer = make_optimizer(recipe.optim, 0, store.buffers());
      for (const ShardValues& shard : store.frozen_tensors()) {
        taken[rank].frozen += static_cast<int64_t>(shard.values.nbytes());
      }
      for (const FlatBuffer* buffer : store.buffers()) taken[rank].trained += buffer->bytes();
      taken[rank].optimizer = optimizer->bytes();
      estimates[rank] =
          estimate_memory(recipe, trained, optimizer->declared(), {}, world.rank(), world.size());
    });
    int64_t estimated_state = 0, state = 0;
    for (size_t rank = 0; rank < taken.size(); ++rank) {
      EXPECT_EQ(estimates[rank].frozen, taken[rank].frozen) << rank << " of " << sets.back();
      EXPECT_EQ(estimates[rank].trained, taken[rank].trained) << rank << " of " << sets.back();
      estimated_state += estimates[rank].optimizer;
      state += taken[rank].optimizer;
    }
    EXPECT_EQ(estimated_state, state) << sets.back();  // replicas share it by rows, about equally
  }
}

}  // namespace
}  // namespace sutor
