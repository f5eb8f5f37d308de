// Every layout of the ranks trains the same numbers as one process: each rank runs the one-process
// training itself and compares its own shards. Started by mpiexec with 2, 4 and 8 ranks. The models
// have 16 experts of which a token uses 2, and routers so sharp and tokens so uneven that some
// experts get most tokens and some get none.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/huggingface/random_model.h"
#include "csrc/comm/journal.h"
#include "journal_order.h"
#include "launch/model/session.h"
#include "launch/train/train_step.h"
#include "layers/esft/trainable_params.h"
#include "layers/models/registry.h"
#include "mpi_world.h"
#include "parallel_state/placement/balanced_placement.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSteps = 5;
constexpr double kSharpen = 3;  // of the routers' weights

nlohmann::json config_of(const std::string& model) {
  nlohmann::json config;
  if (model == "deepseek") {
    config = family_named("deepseek_v2").preset("tiny");
    config["n_routed_experts"] = 16;
    config["num_experts_per_tok"] = 2;
    config["num_hidden_layers"] = 5;
  } else {
    config = family_named("qwen3_moe").preset("tiny");
    config["num_experts"] = 16;
    config["num_experts_per_tok"] = 2;
    config["num_hidden_layers"] = 4;
    config["tie_word_embeddings"] = true;
  }
  config["hidden_size"] = 32;
  config["vocab_size"] = 50;  // tp 4 divides it unevenly
  return config;
}

// A model directory of this process, made once.
const fs::path& model_path(const std::string& model) {
  static std::map<std::string, fs::path> paths;
  fs::path& path = paths[model];
  if (!path.empty()) return path;
  path = fs::temp_directory_path() / ("sutor_layouts_" + model + "_" + std::to_string(getpid()));
  fs::remove_all(path);
  const nlohmann::json config = config_of(model);
  const ModelInfo info = family_of(config).info(config);
  write_random_model(path, info.tensors,
                     {.seed = 5, .std = 0.15, .other_files = {{"config.json", config.dump()}}});
  return path;
}

struct RemoveModels : ::testing::Environment {
  void TearDown() override {
    for (const char* model : {"deepseek", "qwen3"}) fs::remove_all(model_path(model));
  }
};
const auto* const kRemoveModels = ::testing::AddGlobalTestEnvironment(new RemoveModels);

// `rows` packs of documents of unequal lengths; most tokens are one and the same.
std::vector<MicroBatch> packs(int64_t rows, int64_t vocab, uint64_t seed) {
  std::vector<MicroBatch> batches;
  uint64_t state = seed;
  const auto draw = [&](int64_t below) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(below));
  };
  for (int64_t r = 0; r < rows; ++r) {
    MicroBatch batch;
    batch.doc_offsets.push_back(0);
    for (int64_t d = 0; d <= r % 3; ++d) {
      const int64_t begin = batch.doc_offsets.back(), length = 3 + draw(14);
      for (int64_t t = 0; t < length; ++t) batch.ids.push_back(draw(10) < 6 ? 7 : draw(vocab));
      for (int64_t t = 0; t + 1 < length; ++t) {
        const bool in_loss = t % 3 > 0;
        batch.targets.push_back(in_loss ? batch.ids[begin + t + 1] : kNoTarget);
        batch.supervised += in_loss;
      }
      batch.targets.push_back(kNoTarget);
      batch.doc_offsets.push_back(begin + length);
    }
    batches.push_back(batch);
  }
  return batches;
}

struct Outcome {
  std::vector<double> losses, norms, balances;
  // By name: the shards of this rank. exp_avg after one step is (1 - beta1) x clipped gradient.
  std::vector<std::pair<ShardedTensor, at::Tensor>> first_moments;
  std::vector<ShardValues> weights;
  double most_over_mean_load = 0;
  int64_t starving = 0;  // experts without a token in the last step
};

struct Job {
  std::string model;
  const TrainableSet& trainable;
  int64_t rows = 8;
  ExpertRanks expert_ranks = {};  // of the many ranks; none: contiguous
  double balance_loss = 0;
  BalanceOver balance_over = BalanceOver::kSequences;
};

Outcome run(const ModelSource& source, Comm& world, const ParallelOptions& layout, const Job& job) {
  // Small buckets: a reduction for almost every layer.
  SessionOptions options{.parallel = layout, .bucket_elements = int64_t{1} << 12};
  if (world.size() > 1) options.expert_ranks = job.expert_ranks;
  Session session(source, source.info, job.trainable, world, options);
  for (const TensorEntry& entry : source.info.tensors.entries()) {
    at::NoGradGuard no_grad;
    Parameter* router = session.store().find(entry.name);
    if (entry.role == TensorRole::kRouter && router) router->value.mul_(kSharpen);
  }
  const auto optimizer = make_optimizer({.lr = 1e-3}, /*seed=*/0, session.store().buffers());
  const int dp_rank = session.parallel().coordinates().dp, dp = session.parallel().layout().dp();
  Outcome out;
  for (int64_t step = 1; step <= kSteps; ++step) {
    const auto all = packs(job.rows, source.info.vocab_size, 11 * step);
    const IndexRange mine = leading_range(job.rows, dp_rank, dp);
    std::vector<MicroBatch> micro(all.begin() + mine.begin, all.begin() + mine.end);
    MicroBatch empty;
    empty.doc_offsets = {0};
    micro.resize(micro_batch_count(job.rows, dp, 1), empty);
    StepInput input{micro, 0, 0, 0};
    for (const MicroBatch& batch : all) {
      input.supervised += batch.supervised;
      input.sequences += static_cast<int64_t>(batch.doc_offsets.size()) - 1;
      input.tokens += static_cast<int64_t>(batch.ids.size());
    }
    const StepOptions step_options{.lowest_layer = job.trainable.lowest_layer(),
                                   .balance_loss = job.balance_loss,
                                   .balance_over = job.balance_over,
                                   .lr = 1e-3,
                                   .step = step};
    const StepResult result = train_step(session, *optimizer, input, step_options);
    out.balances.push_back(result.balance_loss);
    out.losses.push_back(result.loss);
    out.norms.push_back(result.grad_norm);
    if (step > 1) continue;
    for (const auto& [rows, values] : optimizer->state("exp_avg")) {
      out.first_moments.emplace_back(rows, values.clone().view({rows.row_count, rows.columns()}));
    }
  }
  optimizer->visit_values([&](const ShardValues& value) { out.weights.push_back(value); });
  if (world.size() > 1) return out;
  const auto batch = packs(1, source.info.vocab_size, 11 * kSteps).front();
  const PackedBatch packed = make_packed_batch(batch.ids, batch.doc_offsets);
  ForwardContext context{.batch = packed};
  context.on_routing = [&](int, const at::Tensor& idx, const at::Tensor&, const at::Tensor&) {
    const at::Tensor counts = at::bincount(idx.reshape({-1}), {}, source.info.num_experts);
    const double mean = static_cast<double>(idx.numel()) / source.info.num_experts;
    out.most_over_mean_load = std::max(out.most_over_mean_load, counts.max().item<double>() / mean);
    out.starving += (counts == 0).sum().item<int64_t>();
  };
  session.model().hidden_states(context);
  return out;
}

at::Tensor matrix(const at::Tensor& full) { return full.view({full.size(0), -1}); }

at::Tensor slice_of(const at::Tensor& full, const ShardedTensor& shard) {
  return matrix(full)
      .narrow(0, shard.row_begin, shard.row_count)
      .narrow(1, shard.col_begin, shard.columns());
}

at::Tensor base_weight(const ModelSource& source, const std::string& name, const at::Tensor& like) {
  at::Tensor base = at::empty_like(like);
  ShardedTensor full{.name = name, .dtype = DType::kF32, .global_shape = like.sizes().vec()};
  full.row_count = like.size(0);
  full.data = static_cast<std::byte*>(base.data_ptr());
  const TensorEntry& entry = *source.info.tensors.find(name);
  source.directory.load(entry, full);
  return entry.role == TensorRole::kRouter ? base * kSharpen : base;
}

// The run of one process, the same for all layouts.
const Outcome& one_process(const ModelSource& source, const Job& job) {
  static std::map<std::string, Outcome> known;
  const std::string key = job.model + std::to_string(job.rows) + " " +
                          std::to_string(job.trainable.names().size()) +
                          job.trainable.names().front() + std::to_string(job.balance_loss) +
                          std::to_string(static_cast<int>(job.balance_over));
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  const auto self = make_self_comm();
  return known[key] = run(source, *self, {}, job);
}

void compare(const ModelSource& source, const ParallelOptions& layout, const Job& job) {
  const Outcome& one = one_process(source, job);
  EXPECT_GE(one.most_over_mean_load, 4) << "the routers are not sharp enough to prove much";
  EXPECT_GE(one.starving, 1);
  const Outcome many = run(source, test_world(), layout, job);
  for (int64_t step = 0; step < kSteps; ++step) {
    EXPECT_NEAR(many.losses[step], one.losses[step], 1e-5 * one.losses[step])
        << "step " << step + 1;
    EXPECT_NEAR(many.norms[step], one.norms[step], 1e-5 * one.norms[step]) << "step " << step + 1;
    EXPECT_NEAR(many.balances[step], one.balances[step], 1e-5 * one.balances[step]);
  }
  std::map<std::string, at::Tensor> moments, weights;
  for (const auto& [shard, values] : one.first_moments) moments[shard.name] = values;
  for (const auto& [shard, values] : one.weights) weights[shard.name] = values;
  // Per matrix, over its shards here: the norm of the difference against that of the full matrix.
  std::map<std::string, double> difference;
  for (const auto& [shard, values] : many.first_moments) {
    difference[shard.name] +=
        (values - slice_of(moments.at(shard.name), shard)).square().sum().item<double>();
  }
  for (const auto& [name, square] : difference) {
    EXPECT_LE(std::sqrt(square), 1e-5 * moments.at(name).norm().item<double>() + 1e-12) << name;
  }
  difference.clear();
  for (const auto& [shard, values] : many.weights) {
    difference[shard.name] +=
        (matrix(values) - slice_of(weights.at(shard.name), shard)).square().sum().item<double>();
  }
  for (const auto& [name, square] : difference) {
    const at::Tensor& wanted = weights.at(name);
    const double update = (wanted - base_weight(source, name, wanted)).norm().item<double>();
    EXPECT_LE(std::sqrt(square), 1e-3 * update + 1e-9) << name;
  }
}

// Any two ranks began the operations that they share in the same order, over all communicators.
void expect_one_order() {
  Comm& world = test_world();
  EXPECT_EQ(order_problem(world.all_gather_text(world.journal()->text(), "journals")), "");
}

struct Layout {
  std::string name;
  int ranks;
  ParallelOptions options;
};

Layout layout(int ranks, int tp, int cp, int pp, int ep, int etp = 1,
              const std::string& sequence_parallel = "auto",
              const std::string& dispatcher = "alltoall") {
  ParallelOptions o;
  o.tp = tp, o.cp = cp, o.pp = pp, o.ep = ep, o.etp = etp;
  o.sequence_parallel = sequence_parallel;
  o.dispatcher = dispatcher;
  std::string name;
  const auto add = [&](const char* axis, int size) {
    if (size > 1) name += (name.empty() ? "" : "x") + std::string(axis) + std::to_string(size);
  };
  add("TP", tp), add("CP", cp), add("PP", pp), add("EP", ep), add("ETP", etp);
  add("DP", ranks / (tp * cp * pp)), add("EDP", ranks / (etp * ep * pp));
  if (tp > 1 && sequence_parallel != "false") name += " with sequence parallelism";
  if (dispatcher == "allgather") name += " by all-gather";
  return {name, ranks, o};
}

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all = {
      layout(2, 2, 1, 1, 1, 1, "false"),
      layout(2, 2, 1, 1, 1),
      layout(2, 1, 2, 1, 1),
      layout(2, 1, 1, 2, 1),
      layout(2, 1, 1, 1, 2),
      layout(2, 1, 1, 1, 1, 2),
      layout(2, 1, 1, 1, 1),
      layout(2, 1, 1, 1, 2, 1, "auto", "allgather"),
      layout(2, 1, 1, 1, 1, 2, "auto", "allgather"),
      layout(2, 2, 1, 1, 2, 1, "false"),
      layout(4, 1, 1, 4, 1),
      layout(4, 1, 1, 1, 4),
      layout(4, 2, 1, 2, 1),
      layout(4, 1, 1, 1, 2),
      layout(4, 1, 2, 1, 2),
      layout(4, 2, 1, 1, 4),
      layout(4, 2, 1, 1, 4, 1, "false"),
      layout(4, 1, 1, 2, 2),
      layout(4, 2, 2, 1, 1),
      layout(4, 1, 1, 1, 2, 2),
      layout(4, 2, 1, 1, 2, 2),
      layout(4, 1, 1, 1, 2, 2, "auto", "allgather"),
      layout(8, 2, 2, 2, 1),
      layout(8, 1, 1, 2, 2),
      layout(8, 2, 2, 2, 4),
      layout(8, 2, 1, 2, 2, 2),
      layout(8, 2, 1, 4, 2),
  };
  return all;
}

class Layouts : public ::testing::TestWithParam<const char*> {
 protected:
  Layouts() : source_(model_path(GetParam())) {}
  void compare_all(const TrainableSet& trainable, int64_t rows = 8, double balance_loss = 0,
                   BalanceOver balance_over = BalanceOver::kSequences) {
    for (const Layout& l : layouts()) {
      if (l.ranks != test_world().size()) continue;
      SCOPED_TRACE(l.name);
      test_world().journal()->keep_all();
      test_world().journal()->forget_all();
      compare(source_, l.options, {GetParam(), trainable, rows, {}, balance_loss, balance_over});
      expect_one_order();
    }
  }
  TrainableSet chosen(std::map<int, std::vector<int>> experts, bool others = false) const {
    ExpertConfig config;
    config.experts = std::move(experts);
    config.shared_experts = others && source_.info.family != "qwen3_moe";
    config.non_expert_modules = others;
    return trainable_set(source_.info, config);
  }
  // Uneven on purpose: a layer without any, one with most on the first ranks, one with a single.
  std::map<int, std::vector<int>> uneven() const { return {{1, {0, 1, 2, 3, 5}}, {3, {15}}}; }
  ModelSource source_;
};

TEST_P(Layouts, UnevenlyChosenExpertsTrainAlike) { compare_all(chosen(uneven())); }
TEST_P(Layouts, P05_StagesAndRanksWithNothingToTrainTakePart) { compare_all(chosen({{3, {0}}})); }
TEST_P(Layouts, FullTrainingIsAlike) { compare_all(full_trainable_set(source_.info)); }
TEST_P(Layouts, SharedExpertsAndNonExpertModulesTrainAlike) { compare_all(chosen(uneven(), true)); }
TEST_P(Layouts, OneDocumentForAllRanksIsEnough) { compare_all(chosen(uneven()), /*rows=*/1); }
// Its weight is large beside the loss, so that the gradients are mostly its own; AdamW makes steps
// of rounding where both nearly cancel. Of 7 rows, ranks have different numbers.
TEST_P(Layouts, TheBalanceLossOverSequencesTrainsAlike) {
  compare_all(full_trainable_set(source_.info), /*rows=*/7, 0.5, BalanceOver::kSequences);
}
TEST_P(Layouts, TheBalanceLossOverTheBatchTrainsAlike) {
  compare_all(full_trainable_set(source_.info), /*rows=*/7, 0.1, BalanceOver::kBatch);
}

// Loads as uneven as the tokens; the most used frozen experts are on every rank.
TEST_P(Layouts, BalancedPlacementAndFrozenReplicasTrainAlike) {
  const TrainableSet trainable = chosen(uneven(), true);
  for (const Layout& l : layouts()) {
    if (l.ranks != test_world().size() || l.options.ep == 1) continue;
    for (const int replicas : {0, 3}) {
      SCOPED_TRACE(l.name + " with " + std::to_string(replicas) + " replicas");
      Job job{GetParam(), trainable, 8};
      std::map<int, LayerLoad> loads;
      for (int layer = 0; layer < source_.info.num_layers; ++layer) {
        if (!source_.info.is_moe(layer)) continue;
        LayerLoad& load = loads[layer];
        for (int e = 0; e < 16; ++e) {
          load.load.push_back((e * 7 + layer) % 16);
          const auto at = trainable.experts().find(layer);
          load.trainable.push_back(at != trainable.experts().end() &&
                                   std::count(at->second.begin(), at->second.end(), e) > 0);
        }
      }
      job.expert_ranks = balanced_layers(loads, l.options.ep, replicas);
      compare(source_, l.options, job);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Layouts, ::testing::Values("deepseek", "qwen3"));

}  // namespace
}  // namespace sutor
