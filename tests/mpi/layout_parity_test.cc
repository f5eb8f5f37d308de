// Every EP x EDP layout of the ranks trains the same numbers as one process: each rank computes the
// one-process run itself and compares. Started by mpiexec with 2 and 4 ranks.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>

#include "launch/session.h"
#include "launch/train_step.h"
#include "layers/esft/trainable_params.h"
#include "mpi_world.h"

namespace sutor {
namespace {

const std::filesystem::path kModels = std::filesystem::path(SUTOR_TEST_DATA) / "golden" / "models";

// `rows` documents of unequal lengths with ids below `vocab`, the first token of each not a target.
std::vector<MicroBatch> documents(int64_t rows, int64_t vocab, uint64_t seed) {
  std::vector<MicroBatch> batches;
  uint64_t state = seed;
  for (int64_t r = 0; r < rows; ++r) {
    MicroBatch batch;
    const int64_t length = 5 + 3 * (r % 4);
    for (int64_t t = 0; t < length; ++t) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      batch.ids.push_back(static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(vocab)));
    }
    for (int64_t t = 0; t < length; ++t) {
      batch.targets.push_back(t + 1 < length ? batch.ids[t + 1] : kNoTarget);
    }
    batch.doc_offsets = {0, length};
    batch.supervised = length - 1;
    batches.push_back(batch);
  }
  return batches;
}

MicroBatch empty_batch() {
  MicroBatch batch;
  batch.doc_offsets = {0};
  return batch;
}

struct Case {
  std::string model;
  int ep = 1;
  int64_t rows = 8;  // of the global batch
  double balance_loss = 0;
};

struct Outcome {
  std::vector<double> losses, norms, balance;
  std::map<std::string, at::Tensor> first_gradients, weights;
};

// Gradients of the chunks are summed over replicas; each rank keeps its own chunk. To compare, the
// full gradient is gathered by the same way as weights.
Outcome run(const ModelSource& source, Comm& world, int ep, const TrainableSet& trainable,
            const Case& test, int steps) {
  SessionOptions options{.trained = trainable.names()};
  options.parallel.ep = ep;
  Session session(source, world, options);
  Comm& dp = session.parallel().dp();
  Outcome out;
  for (int step = 1; step <= steps; ++step) {
    // Seed 11: at 7 an entry with a gradient near AdamW's eps took another step.
    const auto all = documents(test.rows, source.info.vocab_size, 11 * step);
    const Range mine = rank_share({0, test.rows}, dp.rank(), dp.size());
    std::vector<MicroBatch> micro(all.begin() + mine.begin, all.begin() + mine.end);
    micro.resize(micro_batch_count(test.rows, dp.size(), 1), empty_batch());
    int64_t supervised = 0;
    for (const MicroBatch& batch : all) supervised += batch.supervised;
    const StepOptions step_options{.lowest_layer = trainable.lowest_layer(),
                                   .balance_loss = test.balance_loss,
                                   .optim = {.lr = 1e-3},
                                   .lr = 1e-3,
                                   .step = step};
    const StepResult result = train_step(session, {micro, supervised, test.rows}, step_options);
    out.losses.push_back(result.loss);
    out.norms.push_back(result.grad_norm);
    out.balance.push_back(result.balance_loss);
    if (step > 1) continue;
    for (FlatGroup* group : {&session.store().dense_group(), &session.store().expert_group()}) {
      for (const ShardedTensor& rows : group->state("exp_avg")) {
        // After one step exp_avg = (1 - beta1) * clipped gradient, on the rank that owns the rows.
        const int64_t n = rows.num_elements();
        at::Tensor copy = at::empty({n}, at::kFloat);
        std::memcpy(copy.data_ptr(), rows.data, rows.num_bytes());
        out.first_gradients[rows.name + "#" + std::to_string(rows.row_begin)] = copy;
      }
    }
  }
  for (FlatGroup* group : {&session.store().dense_group(), &session.store().expert_group()}) {
    for (const auto& [name, master] : group->full_masters()) out.weights[name] = master.clone();
  }
  return out;
}

at::Tensor base_weight(const ModelSource& source, const std::string& name, const at::Tensor& like) {
  at::Tensor base = at::empty_like(like);
  ShardedTensor whole{.name = name, .dtype = DType::kF32, .global_shape = like.sizes().vec()};
  whole.row_count = like.size(0);
  whole.data = static_cast<std::byte*>(base.data_ptr());
  source.directory.load(*source.info.tensors.find(name), whole);
  return base;
}

void compare(const ModelSource& source, const TrainableSet& trainable, const Case& test) {
  const int steps = 5;
  auto self = make_self_comm();
  const Outcome one = run(source, *self, 1, trainable, test, steps);
  const Outcome many = run(source, test_world(), test.ep, trainable, test, steps);
  for (int step = 0; step < steps; ++step) {
    EXPECT_NEAR(many.losses[step], one.losses[step], 1e-5 * one.losses[step])
        << "step " << step + 1;
    // An expert without a token in the batch has a norm of exactly 0.
    EXPECT_NEAR(many.norms[step], one.norms[step], 1e-5 * one.norms[step]) << "step " << step + 1;
    EXPECT_NEAR(many.balance[step], one.balance[step], 1e-5) << "step " << step + 1;
  }
  for (const auto& [key, gradient] : many.first_gradients) {
    const std::string name = key.substr(0, key.find('#'));
    const int64_t row = std::stoll(key.substr(key.find('#') + 1));
    const at::Tensor& whole = one.first_gradients.at(name + "#0");
    const auto shape = source.info.tensors.find(name)->shape;
    const int64_t begin = row * (whole.numel() / shape[0]);
    const at::Tensor wanted = whole.narrow(0, begin, gradient.numel());
    EXPECT_LE((gradient - wanted).norm().item<float>(), 1e-5 * whole.norm().item<float>() + 1e-12)
        << name;
  }
  for (const auto& [name, weight] : many.weights) {
    const at::Tensor& wanted = one.weights.at(name);
    const float update = (wanted - base_weight(source, name, wanted)).norm().item<float>();
    EXPECT_LE((weight - wanted).norm().item<float>(), 1e-3 * update + 1e-9) << name;
  }
}

// Expert-parallel sizes that the ranks at hand allow.
std::vector<int> ep_sizes() {
  std::vector<int> sizes;
  for (const int ep : {1, 2, 4}) {
    if (test_world().size() % ep == 0) sizes.push_back(ep);
  }
  return sizes;
}

class Layouts : public ::testing::TestWithParam<const char*> {
 protected:
  Layouts() : source_(kModels / GetParam()) {}
  void compare_all(const TrainableSet& trainable, int64_t rows = 8, double balance_loss = 0) {
    for (const int ep : ep_sizes()) {
      SCOPED_TRACE("EP " + std::to_string(ep) + " of " + std::to_string(test_world().size()));
      compare(source_, trainable, {GetParam(), ep, rows, balance_loss});
    }
  }
  TrainableSet chosen(std::map<int, std::vector<int>> experts) const {
    ExpertConfig config;
    config.experts = std::move(experts);
    return trainable_set(source_.info, config);
  }
  int last_moe() const {
    int last = 0;
    for (int l = 0; l < source_.info.num_layers; ++l) last = source_.info.is_moe(l) ? l : last;
    return last;
  }
  ModelSource source_;
};

TEST_P(Layouts, ChosenExpertsTrainAlikeAtEveryLayout) {
  compare_all(
      trainable_set(source_.info, read_expert_config(kModels / GetParam() / "expert_config.json")));
}
TEST_P(Layouts, RanksWithNothingToTrainTakePart) {
  compare_all(chosen({{last_moe(), {0}}}));  // only the last layer, only the first rank
}
TEST_P(Layouts, FullTrainingWithBalanceLossIsAlike) {
  // One document a micro-batch everywhere, so the balance loss is over the same micro-batches.
  compare_all(full_trainable_set(source_.info), 8, 0.01);
}
TEST_P(Layouts, SharedExpertsAndNonExpertModulesTrainAlike) {
  ExpertConfig config = read_expert_config(kModels / GetParam() / "expert_config.json");
  config.shared_experts = source_.info.family != "qwen3_moe";
  config.non_expert_modules = true;
  compare_all(trainable_set(source_.info, config));
}
TEST_P(Layouts, RanksWithoutDocumentsTakePart) {
  compare_all(chosen({{last_moe(), {1, 5, 6}}}), /*rows=*/1);
}

INSTANTIATE_TEST_SUITE_P(Models, Layouts,
                         ::testing::Values("deepseek_v2_lite", "deepseek_v2_grouped",
                                           "qwen3_moe_gqa", "qwen3_moe_sparse"));

}  // namespace
}  // namespace sutor
