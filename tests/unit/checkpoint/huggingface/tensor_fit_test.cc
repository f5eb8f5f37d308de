// Which stored tensors may go unread, which stop the run, and what a prefix in all names says.
#include "checkpoint/huggingface/tensor_fit.h"

#include <gtest/gtest.h>

#include "checkpoint/huggingface/hf_directory.h"
#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {

using testing::expect_error;
using testing::StoredValues;
using testing::TempDir;

class TensorFit : public ::testing::Test {
 protected:
  // The model with further tensors; layers 0 and 1 are the model's.
  HfDirectory with(const std::vector<std::string>& names, const std::string& config = "{}") {
    auto stored = testing::stored_per_expert(map_, DType::kF32);
    for (const std::string& name : names) stored.push_back({name, {2}, {1, 2}});
    return open(stored, config);
  }
  HfDirectory open(const std::vector<StoredValues>& stored, const std::string& config = "{}") {
    const std::string name = std::to_string(++count_);
    const auto path = testing::write_single(dir_, name, stored);
    dir_.write(name + "/config.json", config);
    return HfDirectory(path);
  }
  std::string ignored(const std::vector<std::string>& names, const std::string& config = "{}") {
    return ignored_text(check_unused_tensors(with(names, config), map_));
  }
  std::string refused(const std::vector<std::string>& names, const std::string& config = "{}") {
    const HfDirectory directory = with(names, config);
    return expect_error(ErrorCode::kUnusedTensor, {},
                        [&] { check_unused_tensors(directory, map_); });
  }

  TempDir dir_;
  TensorMap map_ = testing::small_model();
  int count_ = 0;
};

TEST_F(TensorFit, NothingIsSaidWhenAllIsUsed) { EXPECT_EQ(ignored({}), ""); }

TEST_F(TensorFit, WhatIsLegitimatelyUnusedIsCountedByKindAndPattern) {
  EXPECT_EQ(ignored({"model.layers.0.self_attn.rotary_emb.inv_freq",
                     "model.layers.1.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"}),
            "3 tensors of rotary buffers (model.layers.*.self_attn.rotary_emb.inv_freq, "
            "model.rotary_emb.inv_freq)");
  EXPECT_EQ(ignored({"model.layers.2.eh_proj.weight", "model.layers.2.mlp.gate.weight"}),
            "2 tensors of layers for multi-token prediction (model.layers.2.*)");
  EXPECT_EQ(ignored({"model.layers.2.mlp.gate.weight"}, R"({"num_nextn_predict_layers": 1})"),
            "1 tensor of layers for multi-token prediction (model.layers.2.*)");
  EXPECT_EQ(ignored({"mtp.layers.0.mlp.gate.weight", "model.mtp.fc.weight"}),
            "2 tensors of layers for multi-token prediction (model.mtp.*, mtp.*)");
  EXPECT_EQ(ignored({"model.visual.blocks.0.attn.qkv.weight", "vision_tower.patch.weight",
                     "multi_modal_projector.linear_1.weight"}),
            "3 tensors of towers for images and sound (model.visual.*, multi_modal_projector.*, "
            "vision_tower.*)");
  EXPECT_EQ(ignored({"model.layers.1.mlp.experts.0.up_proj.input_scale",
                     "model.layers.1.self_attn.k_proj.k_scale"}),
            "2 tensors of scales of activations and of the key-value cache "
            "(model.layers.*.mlp.experts.*.up_proj.input_scale, "
            "model.layers.*.self_attn.k_proj.k_scale)");
  EXPECT_EQ(ignored({"lm_head.weight"}),
            "1 tensor of a head that is tied to the embedding (lm_head.weight)");
  EXPECT_EQ(ignored({"score.weight", "v_head.summary.bias"}),
            "2 tensors of modules that a causal language model does not have (score.*, v_head.*)");
}

TEST_F(TensorFit, AnUnusedTensorOfAUsedModuleIsRefusedByName) {
  for (const char* name :
       {"model.norm.bias", "model.embed_norm.weight", "model.embed_tokens.weight_scale",
        "model.layers.1.mlp.experts.0.up_proj.g_idx", "model.layers.1.mlp.experts.0.up_proj.bias",
        "model.layers.1.mlp.experts.2.up_proj.weight", "model.layers.1.mlp.experts.extra",
        "model.layers.1.mlp.experts.1.down_proj.lora_A.weight", "model.layers.0.adapter.weight",
        "module.model.norm.weight"}) {
    const std::string message = refused({name, "mtp.fc.weight"});
    EXPECT_NE(message.find(name), std::string::npos) << message;
    EXPECT_EQ(message.find("mtp.fc"), std::string::npos) << message;
  }
}

TEST_F(TensorFit, LayersBehindTheLastAreRefusedUnlessTheyPredictTokens) {
  const std::string message = refused({"model.layers.2.mlp.gate.weight"});
  EXPECT_NE(message.find("num_hidden_layers 2"), std::string::npos) << message;
  EXPECT_NE(message.find("model.layers.2.mlp.gate.weight"), std::string::npos) << message;
  refused({"model.layers.3.mlp.gate.weight"}, R"({"num_nextn_predict_layers": 1})");
}

TEST_F(TensorFit, ATensorInTwoFormsIsRefusedWithBoth) {
  auto stored = testing::stored_per_expert(map_, DType::kF32);
  for (const StoredValues& tensor : testing::stored_fused(map_, DType::kF32)) {
    if (tensor.name.find("gate_up_proj") != std::string::npos) stored.push_back(tensor);
  }
  const HfDirectory both = open(stored);
  expect_error(
      ErrorCode::kUnusedTensor,
      {"stored twice", "experts.0.gate_proj.weight`", "`model.layers.1.mlp.experts.gate_up_proj`"},
      [&] { check_unused_tensors(both, map_); });
  const HfDirectory packed = with({"model.norm.weight_packed"});
  expect_error(ErrorCode::kUnusedTensor, {"stored twice", "model.norm.weight_packed"},
               [&] { check_unused_tensors(packed, map_); });
}

TEST_F(TensorFit, APrefixInAllNamesIsNamedAsTheCause) {
  const auto renamed = [&](const std::function<std::string(std::string)>& rename) {
    auto stored = testing::stored_per_expert(map_, DType::kF32);
    for (StoredValues& tensor : stored) tensor.name = rename(tensor.name);
    return open(stored);
  };
  for (const std::string prefix :
       {"module.", "base_model.model.", "_orig_mod.", "_orig_mod.module.", "language_model.",
        "llm.backbone.", "model."}) {
    const HfDirectory directory = renamed([&](const std::string& name) { return prefix + name; });
    expect_error(ErrorCode::kMissingTensor, {"8 of 8", "the prefix `" + prefix + "`"},
                 [&] { directory.check(map_); });
  }
  const HfDirectory bare = renamed([](const std::string& name) { return name.substr(6); });
  expect_error(ErrorCode::kMissingTensor, {"lack the prefix `model.`"}, [&] { bare.check(map_); });
  for (const std::string wrapper : {"_orig_mod.", "base_layer.", "language_model."}) {
    const HfDirectory inside =
        renamed([&](const std::string& name) { return "model." + wrapper + name.substr(6); });
    expect_error(ErrorCode::kMissingTensor, {"wrapper's `" + wrapper + "`"},
                 [&] { inside.check(map_); });
  }
  const HfDirectory other = renamed([](const std::string& name) { return "x" + name; });
  const std::string message =
      expect_error(ErrorCode::kMissingTensor, {"everything fetched"}, [&] { other.check(map_); });
  EXPECT_EQ(message.find("prefix"), std::string::npos) << message;
}

}  // namespace
}  // namespace sutor
