// The optimizers: adamw beside torch's and beside its formula, adamw_bf16 the same bits in every
// layout of the chunks, and for both what they declare, what it costs, and that a restored one goes
// on as if nothing had been.
#include "layers/optim/optimizer.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "tests/support/flat_buffers.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

using testing::BufferTensor;
using testing::fill_buffer;
using testing::run_ranks;
using testing::sample_buffer_tensors;
using testing::set_gradients;
using testing::set_weights;
using testing::state_values;
using testing::StateValues;

constexpr double kLr = 1e-2;
constexpr uint64_t kSeed = 42;
constexpr int64_t kSteps = 5;

OptimOptions options_of(std::string_view name) { return {.name = std::string(name), .lr = kLr}; }

at::ScalarType dtype_of(std::string_view name) {
  return name == "adamw_bf16" ? at::kBFloat16 : at::kFloat;
}

void take_steps(Optimizer& optimizer, FlatBuffer& buffer, int64_t first, int64_t last) {
  for (int64_t step = first; step <= last; ++step) {
    set_gradients(buffer, step);
    optimizer.step(kLr, step);
    buffer.gather_values();
  }
}

// Everything after kSteps steps on `replicas` replicas, by tensor and kind.
StateValues trained(const std::string& name, at::ScalarType dtype, int replicas,
                    const std::vector<BufferTensor>& tensors, uint64_t seed = kSeed) {
  StateValues all;
  std::mutex mutex;
  run_ranks(replicas, [&](Comm& comm) {
    FlatBuffer buffer(comm, dtype);
    fill_buffer(buffer, tensors);
    set_weights(buffer);
    const auto optimizer = make_optimizer(options_of(name), seed, {&buffer});
    take_steps(*optimizer, buffer, 1, kSteps);
    for (int r = 0; r < comm.size(); ++r) {  // rows in their order
      comm.barrier("in turn");
      if (r != comm.rank()) continue;
      const std::lock_guard lock(mutex);
      for (auto& [key, rows] : state_values(*optimizer)) {
        at::Tensor& found = all[key];
        found = found.defined() ? at::cat({found, rows}) : rows;
      }
    }
  });
  return all;
}

void expect_equal(const StateValues& a, const StateValues& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [key, values] : a) {
    EXPECT_TRUE(at::equal(values, b.at(key))) << key.first << " " << key.second;
  }
}

TEST(Optimizers, EveryNameOfARecipeIsMadeAndDeclaresItself) {
  for (const OptimizerName& entry : kOptimizerNames) {
    const auto self = make_self_comm();
    FlatBuffer buffer(*self, dtype_of(entry.name));
    fill_buffer(buffer, sample_buffer_tensors());
    const auto optimizer = make_optimizer(options_of(entry.name), kSeed, {&buffer});
    EXPECT_EQ(optimizer->declared().optimizer, entry.name);
    EXPECT_EQ(optimizer->declared().values_kind().name, optimizer->declared().values);
  }
}

// Of a parameter: compute copy and state, without the gradient.
double bytes_of(const std::string& name, at::ScalarType dtype, int replicas) {
  double total = 0;
  int64_t elements = 0;
  std::mutex mutex;
  run_ranks(replicas, [&](Comm& comm) {
    FlatBuffer buffer(comm, dtype);
    fill_buffer(buffer, sample_buffer_tensors());
    const auto optimizer = make_optimizer(options_of(name), kSeed, {&buffer});
    const std::lock_guard lock(mutex);
    elements = buffer.num_elements();
    const auto gradients = 4 * elements;
    if (comm.rank() == 0) total += static_cast<double>(buffer.bytes() - gradients);
    total += static_cast<double>(optimizer->bytes());
  });
  return total / static_cast<double>(elements);
}

TEST(Optimizers, BytesAParameterAreCounted) {
  for (const int replicas : {1, 3}) {  // ZeRO-1: the state of all replicas together is one state
    EXPECT_EQ(bytes_of("adamw", at::kFloat, replicas), 4 + 8);
    EXPECT_EQ(bytes_of("adamw", at::kBFloat16, replicas), 2 + 12);
    EXPECT_EQ(bytes_of("adamw_bf16", at::kBFloat16, replicas), 2 + 4);
  }
}

TEST(Optimizers, ARestoredOneGoesOnBitForBit) {
  for (const auto& [name, dtype] :
       {std::pair{"adamw", at::kFloat}, {"adamw", at::kBFloat16}, {"adamw_bf16", at::kBFloat16}}) {
    const auto self = make_self_comm();
    FlatBuffer first(*self, dtype), second(*self, dtype);
    for (FlatBuffer* buffer : {&first, &second}) fill_buffer(*buffer, sample_buffer_tensors());
    set_weights(first);
    const auto before = make_optimizer(options_of(name), kSeed, {&first});
    const auto after = make_optimizer(options_of(name), kSeed, {&second});
    take_steps(*before, first, 1, 2);
    for (const StateKind& kind : before->declared().kinds) {
      const auto from = before->state(kind.name), to = after->state(kind.name);
      ASSERT_EQ(from.size(), to.size());
      for (size_t i = 0; i < from.size(); ++i) {
        at::Tensor(to[i].values).copy_(from[i].values);
      }
    }
    after->state_restored();
    EXPECT_TRUE(at::equal(second.chunk_values(), first.chunk_values()));
    take_steps(*before, first, 3, kSteps);
    take_steps(*after, second, 3, kSteps);
    expect_equal(state_values(*after), state_values(*before));
    EXPECT_TRUE(at::equal(second.chunk_values(), first.chunk_values()));
  }
}

TEST(Optimizers, ValuesAreWhatEveryShardTrainedToOnEveryReplica) {
  for (const auto& [name, kind, dtype] : {std::tuple{"adamw", "master", at::kFloat},
                                          {"adamw", "master", at::kBFloat16},
                                          {"adamw_bf16", "weight", at::kBFloat16}}) {
    const StateValues wanted = trained(name, dtype, 3, sample_buffer_tensors());
    run_ranks(3, [&, name = name, kind = kind, dtype = dtype](Comm& comm) {
      FlatBuffer buffer(comm, dtype);
      fill_buffer(buffer, sample_buffer_tensors());
      set_weights(buffer);
      const auto optimizer = make_optimizer(options_of(name), kSeed, {&buffer});
      take_steps(*optimizer, buffer, 1, kSteps);
      size_t visited = 0;
      optimizer->visit_values([&](const ShardValues& value) {
        EXPECT_TRUE(
            at::equal(value.values.flatten(), wanted.at({value.place.name, kind}).flatten()))
            << value.place.name;
        ++visited;
      });
      EXPECT_EQ(visited, buffer.size());
    });
  }
}

// Decayed tensors lie first in the buffer.
const std::vector<std::string> kDecayed = {"a", "b", "c"}, kRest = {"norm"};

at::Tensor run_of(const StateValues& values, const std::vector<std::string>& names,
                  const char* kind) {
  std::vector<at::Tensor> parts;
  for (const std::string& name : names) parts.push_back(values.at({name, kind}).flatten());
  return at::cat(parts);
}

TEST(AdamW, IsTorchsFusedAdamwOnTheDecayedElementsAndOnTheRest) {
  const OptimOptions options = options_of("adamw");
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const StateValues found = trained("adamw", dtype, 1, sample_buffer_tensors());
    const auto self = make_self_comm();
    FlatBuffer buffer(*self, dtype);
    fill_buffer(buffer, sample_buffer_tensors());
    set_weights(buffer);
    const int64_t decayed = buffer.chunk_decayed();
    for (const auto& [names, begin, end, decay] :
         {std::tuple{kDecayed, int64_t{0}, decayed, options.weight_decay},
          {kRest, decayed, buffer.chunk_size(), 0.0}}) {
      const auto part = [&, begin = begin, end = end](const at::Tensor& whole) {
        return whole.narrow(0, begin, end - begin).to(at::kFloat).clone();
      };
      std::vector<at::Tensor> master{part(buffer.chunk_values())};
      std::vector<at::Tensor> first{at::zeros_like(master[0])}, second{at::zeros_like(master[0])};
      for (int64_t step = 1; step <= kSteps; ++step) {
        set_gradients(buffer, step);
        std::vector<at::Tensor> grad{part(buffer.chunk_grads())};
        std::vector<at::Tensor> count{at::full({}, static_cast<double>(step), at::kFloat)};
        at::_fused_adamw_(master, grad, first, second, {}, count, kLr, options.beta1, options.beta2,
                          decay, options.eps, false, false);
      }
      EXPECT_TRUE(at::equal(run_of(found, names, "master"), master[0]));
      EXPECT_TRUE(at::equal(run_of(found, names, "exp_avg"), first[0]));
      EXPECT_TRUE(at::equal(run_of(found, names, "exp_avg_sq"), second[0]));
    }
  }
}

// Torch's loop rounds the last elements of a run otherwise than those before, so that bits depend
// on where chunks end.
TEST(AdamW, EveryNumberOfReplicasTrainsTheSameButForLastBits) {
  const StateValues one = trained("adamw", at::kFloat, 1, sample_buffer_tensors());
  for (const int replicas : {2, 3, 5}) {
    for (const auto& [key, values] :
         trained("adamw", at::kFloat, replicas, sample_buffer_tensors())) {
      EXPECT_TRUE(at::allclose(values, one.at(key), 1e-5, 1e-8)) << key.first << " " << key.second;
    }
  }
}

// In double, of one tensor: weights after kSteps steps.
at::Tensor by_the_formula(const ShardedTensor& shard, double decay) {
  const OptimOptions o = options_of("adamw");
  at::Tensor w = testing::numbers_of(shard, 0).to(at::kDouble);
  at::Tensor m = at::zeros_like(w), v = at::zeros_like(w);
  for (int64_t step = 1; step <= kSteps; ++step) {
    const at::Tensor g =
        testing::numbers_of(shard, 1000 + static_cast<uint64_t>(step), 1e-2f).to(at::kDouble);
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    const at::Tensor first = m / (1 - std::pow(o.beta1, step));
    const at::Tensor second = v / (1 - std::pow(o.beta2, step));
    w = w - kLr * (first / (second.sqrt() + o.eps) + decay * w);
  }
  return w;
}

TEST(AdamW, FollowsItsFormula) {
  const StateValues found = trained("adamw", at::kFloat, 2, sample_buffer_tensors());
  const auto self = make_self_comm();
  FlatBuffer buffer(*self, at::kFloat);
  fill_buffer(buffer, sample_buffer_tensors());
  for (size_t i = 0; i < buffer.size(); ++i) {
    const at::Tensor wanted = by_the_formula(buffer.shard(i), buffer.name(i) == "norm" ? 0 : 0.1);
    EXPECT_TRUE(
        at::allclose(found.at({buffer.name(i), "master"}).to(at::kDouble), wanted, 1e-5, 1e-7));
  }
}

// Weights of bf16 are known to 1/256 of themselves; 2000 of them average that out.
TEST(AdamWBf16, FollowsTheFormulaInTheMean) {
  const StateValues found = trained("adamw_bf16", at::kBFloat16, 1, sample_buffer_tensors());
  const auto self = make_self_comm();
  FlatBuffer buffer(*self, at::kBFloat16);
  fill_buffer(buffer, sample_buffer_tensors());
  for (size_t i = 0; i < buffer.size(); ++i) {
    if (buffer.name(i) != "c") continue;
    const at::Tensor wanted = by_the_formula(buffer.shard(i), 0.1);
    const at::Tensor difference = found.at({"c", "weight"}).to(at::kDouble) - wanted;
    EXPECT_LT(difference.abs().max().item<double>(), 8.0 / 256);
    EXPECT_LT(std::abs(difference.mean().item<double>()), 1e-4);
  }
}

TEST(AdamWBf16, EveryNumberOfReplicasAndThreadsMakesTheSameBits) {
  std::vector<BufferTensor> tensors = sample_buffer_tensors();
  tensors.push_back(testing::whole_tensor("large", {301, 1000}));  // several blocks
  const StateValues one = trained("adamw_bf16", at::kBFloat16, 1, tensors);
  for (const int replicas : {2, 3, 5}) {
    expect_equal(trained("adamw_bf16", at::kBFloat16, replicas, tensors), one);
  }
  const int threads = at::get_num_threads();
  for (const int others : {1, 3}) {
    at::set_num_threads(others);
    expect_equal(trained("adamw_bf16", at::kBFloat16, 1, tensors), one);
  }
  at::set_num_threads(threads);
}

TEST(AdamWBf16, ShardsOfRowsAndColumnsHaveTheBitsOfTheWholeTensor) {
  const StateValues whole =
      trained("adamw_bf16", at::kBFloat16, 1, {testing::whole_tensor("w", {40, 24})});
  const std::vector<int64_t> shape{40, 24};
  for (const TensorShard& shard : {TensorShard{shape, 0, 40, 0, 7},
                                   {shape, 0, 40, 7, 17},
                                   {shape, 13, 27, 0, 24},
                                   {shape, 0, 13, 0, 24}}) {
    const StateValues part = trained("adamw_bf16", at::kBFloat16, 3, {{"w", shard}});
    for (const auto& [key, values] : part) {
      EXPECT_TRUE(at::equal(values, whole.at(key)
                                        .narrow(0, shard.row_begin, shard.row_count)
                                        .narrow(1, shard.col_begin, shard.col_count)))
          << key.second;
    }
  }
}

TEST(AdamWBf16, AnotherSeedRoundsOtherwise) {
  const StateValues one = trained("adamw_bf16", at::kBFloat16, 1, sample_buffer_tensors(), 1);
  const StateValues two = trained("adamw_bf16", at::kBFloat16, 1, sample_buffer_tensors(), 2);
  const at::Tensor differ = one.at({"c", "weight"}) != two.at({"c", "weight"});
  EXPECT_GT(differ.sum().item<int64_t>(), differ.numel() / 4);
}

}  // namespace
}  // namespace sutor
