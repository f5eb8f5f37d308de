// Models of every family on a device whose memory is the host's (tests/support/fake_device.h): the
// numbers are the CPU's to the last bit, no operation mixes devices, and a training step reads what
// it must of the device and no more.
#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "launch/data/micro_batch.h"
#include "launch/eval/generation.h"
#include "launch/model/session.h"
#include "launch/train/train_step.h"
#include "layers/esft/trainable_params.h"
#include "tests/support/fake_device.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

using testing::fake_device;
using testing::host_reads;
using testing::run_ranks;

const std::filesystem::path kModels = std::filesystem::path(SUTOR_TEST_DATA) / "golden" / "models";
constexpr int64_t kSteps = 5;

// Two documents a micro-batch, of ids that depend on the step.
std::vector<MicroBatch> micro_batches(int64_t vocab, int64_t step) {
  std::vector<MicroBatch> batches;
  for (int64_t b = 0; b < 2; ++b) {
    MicroBatch batch;
    batch.doc_offsets = {0, 9 + b, 26};
    for (int64_t t = 0; t < 26; ++t) {
      batch.ids.push_back((7 * t + 13 * b + 31 * step) % vocab);
      batch.targets.push_back(t % 3 == 0 ? kNoTarget : (5 * t + 17 * step) % vocab);
      batch.supervised += batch.targets.back() != kNoTarget;
    }
    batches.push_back(batch);
  }
  return batches;
}

struct Training {
  std::vector<double> losses, norms;
  std::vector<int64_t> reads;  // of each step, by this rank
  Digest weights;              // all of this rank's after the last step
};

struct Job {
  at::Device device = at::kCPU;
  ParallelOptions parallel{};
  at::ScalarType dtype = at::kFloat;
  bool all = false;  // everything trains, else the experts of the golden config
  double balance_loss = 0;
  Recompute recompute = Recompute::kNone;
};

TrainableSet trainable_of(const ModelSource& source, const std::string& model, bool all) {
  if (all) return full_trainable_set(source.info);
  return trainable_set(source.info, read_expert_config(kModels / model / "expert_config.json"));
}

Training train(const std::string& model, Comm& world, const Job& job) {
  const ModelSource source(kModels / model);
  const TrainableSet trainable = trainable_of(source, model, job.all);
  const SessionOptions options{.parallel = job.parallel, .dtype = job.dtype, .device = job.device};
  Session session(source, source.info, trainable, world, options);
  const auto optimizer = make_optimizer({.lr = 1e-3}, /*seed=*/0, session.store().buffers());
  const int dp_rank = session.parallel().coordinates().dp, dp = session.parallel().layout().dp();
  Training result;
  for (int64_t step = 1; step <= kSteps; ++step) {
    const std::vector<MicroBatch> all = micro_batches(source.info.vocab_size, step);
    const IndexRange own = leading_range(2, dp_rank, dp);
    const std::span<const MicroBatch> micro(all.data() + own.begin, own.size());
    const StepOptions step_options{.lowest_layer = trainable.lowest_layer(),
                                   .balance_loss = job.balance_loss,
                                   .recompute = job.recompute,
                                   .lr = 1e-3,
                                   .step = step};
    const auto tokens = static_cast<int64_t>(all[0].ids.size() + all[1].ids.size());
    const int64_t before = host_reads();
    const StepResult stepped =
        train_step(session, *optimizer, {micro, all[0].supervised + all[1].supervised, 2, tokens},
                   step_options);
    result.reads.push_back(host_reads() - before);
    result.losses.push_back(stepped.loss);
    result.norms.push_back(stepped.grad_norm);
  }
  result.weights = digest_of(session.store().tensors());
  return result;
}

Training train_alone(const std::string& model, const Job& job) {
  return train(model, *make_self_comm(), job);
}

void expect_same(const Training& one, const Training& other) {
  EXPECT_EQ(one.losses, other.losses);
  EXPECT_EQ(one.norms, other.norms);
  EXPECT_EQ(one.weights, other.weights);
}

class FakeDevice : public ::testing::TestWithParam<const char*> {};

TEST_P(FakeDevice, FiveStepsOnChosenExpertsHaveTheBitsOfTheCpuAndReadOnceEach) {
  const Training cpu = train_alone(GetParam(), {});
  const Training fake = train_alone(GetParam(), {.device = fake_device()});
  expect_same(cpu, fake);
  EXPECT_EQ(fake.reads, std::vector<int64_t>(kSteps, 1));
}

TEST_P(FakeDevice, FullTrainingInBf16WithBalanceLossHasTheBitsOfTheCpuAndReadsOnceEach) {
  Job job{.dtype = at::kBFloat16, .all = true, .balance_loss = 0.01};
  const Training cpu = train_alone(GetParam(), job);
  job.device = fake_device();
  const Training fake = train_alone(GetParam(), job);
  expect_same(cpu, fake);
  EXPECT_EQ(fake.reads, std::vector<int64_t>(kSteps, 1));
}

TEST_P(FakeDevice, WhatIsComputedAgainHasTheSameBits) {
  for (const bool all : {false, true}) {
    Job job{.all = all, .balance_loss = 0.01};
    const Training kept = train_alone(GetParam(), job);
    for (const Recompute recompute : {Recompute::kAttention, Recompute::kLayer}) {
      job.recompute = recompute;
      expect_same(kept, train_alone(GetParam(), job));
    }
  }
}

// Each rank's training on two ranks.
std::vector<Training> train_on_two(const std::string& model, const Job& job) {
  std::vector<Training> result(2);
  run_ranks(2, [&](Comm& world) { result[world.rank()] = train(model, world, job); });
  return result;
}

int64_t moe_layers(const std::string& model) {
  const ModelSource source(kModels / model);
  return std::count(source.info.moe_layer.begin(), source.info.moe_layer.end(), true);
}

TEST_P(FakeDevice, TwoRanksOfExpertsReadOnceMoreForEveryMoeLayer) {
  for (const char* dispatcher : {"alltoall", "allgather"}) {
    Job job{.parallel = {.ep = 2, .dispatcher = dispatcher}};
    const std::vector<Training> cpu = train_on_two(GetParam(), job);
    job.device = fake_device();
    const std::vector<Training> fake = train_on_two(GetParam(), job);
    for (int rank = 0; rank < 2; ++rank) {
      expect_same(cpu[rank], fake[rank]);
      EXPECT_EQ(fake[rank].reads, std::vector<int64_t>(kSteps, 1 + moe_layers(GetParam())))
          << dispatcher << ", rank " << rank;
    }
  }
}

TEST_P(FakeDevice, EveryKindOfParallelismHasTheBitsOfTheCpu) {
  const ParallelOptions layouts[] = {{.tp = 2}, {.cp = 2}, {.pp = 2}, {.etp = 2}};
  for (const ParallelOptions& layout : layouts) {
    Job job{.parallel = layout, .all = true, .balance_loss = 0.01};
    const std::vector<Training> cpu = train_on_two(GetParam(), job);
    job.device = fake_device();
    const std::vector<Training> fake = train_on_two(GetParam(), job);
    for (int rank = 0; rank < 2; ++rank) expect_same(cpu[rank], fake[rank]);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, FakeDevice,
                         ::testing::Values("deepseek_v2_lite", "deepseek_v2_grouped",
                                           "qwen3_moe_gqa", "qwen3_moe_sparse", "qwen2_moe_gated",
                                           "mixtral_gqa", "olmoe_clipped", "deepseek_v3_grouped",
                                           "glm4_moe_partial", "gpt_oss_sinks"));

TEST(FakeDeviceItself, RefusesToMixItsTensorsWithTheCpus) {
  const at::Tensor fake = at::ones({2, 3}, at::TensorOptions().device(fake_device()));
  EXPECT_ANY_THROW(fake + at::ones({2, 3}));
  EXPECT_ANY_THROW(at::mm(fake, at::ones({3, 2})));
}

TEST(FakeDeviceItself, CountsWhatTheHostReads) {
  const at::Tensor fake = at::ones({2, 3}, at::TensorOptions().device(fake_device()));
  const int64_t before = host_reads();
  const at::Tensor sum = (fake * 2).sum();
  EXPECT_EQ(host_reads(), before);
  EXPECT_EQ(sum.item<float>(), 12.0f);
  EXPECT_EQ(fake.cpu().sum().item<float>(), 6.0f);
  EXPECT_EQ(host_reads(), before + 2);
}

}  // namespace
}  // namespace sutor
