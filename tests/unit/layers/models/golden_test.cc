// Tiny models against what transformers 5.23.0 computes for them (tests/golden/make_goldens.py).
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "csrc/base/safetensors.h"
#include "launch/model/session.h"
#include "launch/train/passes/pipeline_runner.h"
#include "layers/esft/trainable_params.h"
#include "layers/optim/gradient_clip.h"
#include "layers/optim/optimizer.h"

namespace sutor {
namespace {

const std::filesystem::path kModels = std::filesystem::path(SUTOR_TEST_DATA) / "golden" / "models";

at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry& entry = *file.find(name);
  const auto dtype = entry.dtype_name == "I64"   ? at::kLong
                     : entry.dtype_name == "F64" ? at::kDouble
                                                 : at::kFloat;
  at::Tensor tensor = at::empty(entry.shape, dtype);
  const auto bytes = file.bytes(entry);
  std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

class Golden : public ::testing::TestWithParam<const char*> {
 protected:
  Golden()
      : source_(kModels / GetParam()),
        expected_(kModels / GetParam() / "expected.safetensors"),
        world_(make_self_comm()),
        config_(read_expert_config(kModels / GetParam() / "expert_config.json")),
        ids_(tensor_of(expected_, "ids")) {}

  // `trainable` must outlive the session.
  std::unique_ptr<Session> open(const TrainableSet& trainable) {
    return std::make_unique<Session>(source_, source_.info, trainable, *world_, SessionOptions{});
  }

  MicroBatch batch() const {
    MicroBatch batch;
    const int64_t rows = ids_.size(0), tokens = ids_.size(1);
    const int64_t* id = ids_.data_ptr<int64_t>();
    batch.ids.assign(id, id + rows * tokens);
    for (int64_t r = 0; r <= rows; ++r) batch.doc_offsets.push_back(r * tokens);
    for (int64_t i = 0; i < rows * tokens; ++i) {
      batch.targets.push_back(i % tokens == tokens - 1 ? kNoTarget : id[i + 1]);
    }
    batch.supervised = rows * (tokens - 1);
    return batch;
  }

  ModelSource source_;
  SafetensorsFile expected_;
  std::unique_ptr<Comm> world_;
  ExpertConfig config_;
  at::Tensor ids_;
};

TEST_P(Golden, LogitsAndRouterChoicesEqualThoseOfTransformers) {
  const TrainableSet nothing;
  const auto session = open(nothing);
  const MicroBatch micro = batch();
  const PackedBatch packed = make_packed_batch(micro.ids, micro.doc_offsets);
  ForwardContext context{.batch = packed};
  context.on_routing = [&](int layer, const at::Tensor& idx, const at::Tensor& weights,
                           const at::Tensor&) {
    const std::string prefix = "router." + std::to_string(layer);
    const at::Tensor wanted = tensor_of(expected_, prefix + ".topk_idx").view(idx.sizes());
    const at::Tensor wanted_weights =
        tensor_of(expected_, prefix + ".topk_weights").view(weights.sizes());
    const auto [sorted, order] = idx.sort(1);
    const auto [wanted_sorted, wanted_order] = wanted.sort(1);
    EXPECT_TRUE(at::equal(sorted, wanted_sorted)) << prefix;
    EXPECT_LT((weights.gather(1, order) - wanted_weights.gather(1, wanted_order))
                  .abs()
                  .max()
                  .item<float>(),
              1e-5)
        << prefix;
  };
  const at::Tensor hidden = session->model().hidden_states(context);
  at::NoGradGuard no_grad;
  const at::Tensor logits = at::linear(hidden, session->model().head().value);
  const at::Tensor wanted = tensor_of(expected_, "logits").view(logits.sizes());
  EXPECT_LT((logits - wanted).abs().max().item<float>(), 1e-4);
}

TEST_P(Golden, LossAndEveryGradientEqualThoseOfTransformers) {
  const TrainableSet all = full_trainable_set(source_.info);
  const auto session = open(all);
  const MicroBatch micro = batch();
  const double scale = 1.0 / static_cast<double>(micro.supervised);
  const PipelineResult result =
      forward_backward(session->model(), session->store(), {&micro, 1},
                       {.lowest_layer = all.lowest_layer(), .loss_scale = scale});
  const float loss = tensor_of(expected_, "loss").item<float>();
  EXPECT_NEAR(result.loss_sum.item<double>() * scale / loss, 1.0, 1e-6);
  for (FlatBuffer* buffer : session->store().buffers()) {
    for (size_t i = 0; i < buffer->size(); ++i) {
      const std::string name = "grad." + buffer->name(i);
      if (!expected_.find(name)) continue;
      const at::Tensor wanted = tensor_of(expected_, name);
      const float norm = wanted.norm().item<float>();
      EXPECT_LE((buffer->grad(i) - wanted).norm().item<float>(), 1e-4 * norm + 1e-9) << name;
    }
  }
}

std::vector<FlatBuffer*> trained_buffers(ParameterStore& store) {
  std::vector<FlatBuffer*> found;
  for (FlatBuffer* buffer : store.buffers()) {
    if (buffer->size() > 0) found.push_back(buffer);
  }
  return found;
}

// Values of all trained tensors by name.
std::map<std::string, at::Tensor> trained_values(ParameterStore& store) {
  std::map<std::string, at::Tensor> values;
  for (FlatBuffer* buffer : trained_buffers(store)) {
    for (size_t i = 0; i < buffer->size(); ++i) values[buffer->name(i)] = buffer->value(i).clone();
  }
  return values;
}

TEST_P(Golden, ThreeStepsOnChosenExpertsEqualThoseOfTransformers) {
  const TrainableSet chosen = trainable_set(source_.info, config_);
  const auto session = open(chosen);
  ParameterStore& store = session->store();
  const std::vector<FlatBuffer*> buffers = trained_buffers(store);
  const MicroBatch micro = batch();
  const double scale = 1.0 / static_cast<double>(micro.supervised);
  const at::Tensor losses = tensor_of(expected_, "train.losses");
  const at::Tensor norms = tensor_of(expected_, "train.grad_norms");
  const OptimOptions optim{.lr = 1e-3};
  const auto optimizer = make_optimizer(optim, /*seed=*/0, buffers);
  const auto before = trained_values(store);
  for (int64_t step = 1; step <= losses.numel(); ++step) {
    for (FlatBuffer* buffer : buffers) buffer->zero_grad();
    const PipelineResult result =
        forward_backward(session->model(), store, {&micro, 1},
                         {.lowest_layer = chosen.lowest_layer(), .loss_scale = scale});
    const double norm = gradient_norm(squared_gradients(buffers).item<double>(), *world_);
    EXPECT_NEAR(result.loss_sum.item<double>() * scale / losses[step - 1].item<double>(), 1.0,
                1e-5);
    EXPECT_NEAR(norm / norms[step - 1].item<double>(), 1.0, 1e-4);
    clip_gradients(buffers, norm, optim.clip);
    optimizer->step(optim.lr, step);
  }
  // Over all trained tensors: where a gradient is near AdamW's eps, rounding decides the step.
  double difference = 0, update = 0;
  for (const auto& [name, value] : trained_values(store)) {
    const at::Tensor wanted = tensor_of(expected_, "train.after." + name);
    difference += (value - wanted).square().sum().item<double>();
    update += (wanted - before.at(name)).square().sum().item<double>();
  }
  EXPECT_LE(std::sqrt(difference), 1e-3 * std::sqrt(update));
}

TEST_P(Golden, NothingFrozenMovesOrGetsAGradient) {
  const TrainableSet chosen = trainable_set(source_.info, config_);
  const auto session = open(chosen);
  const Digest before = digest_of(session->store().frozen_tensors());
  const MicroBatch micro = batch();
  forward_backward(session->model(), session->store(), {&micro, 1},
                   {.lowest_layer = chosen.lowest_layer(), .loss_scale = 1.0});
  EXPECT_EQ(digest_of(session->store().frozen_tensors()), before);
  int64_t elements = 0;
  for (const FlatBuffer* buffer : trained_buffers(session->store())) {
    elements += buffer->num_elements();
  }
  EXPECT_EQ(elements, chosen.num_parameters());
}

INSTANTIATE_TEST_SUITE_P(Models, Golden,
                         ::testing::Values("deepseek_v2_lite", "deepseek_v2_grouped",
                                           "qwen3_moe_gqa", "qwen3_moe_sparse", "qwen2_moe_gated",
                                           "mixtral_gqa", "olmoe_clipped", "deepseek_v3_grouped",
                                           "glm4_moe_partial", "gpt_oss_sinks"));

}  // namespace
}  // namespace sutor
