// Quantised matrices whose form is not the one of config.json, or not one that is read: refused
// with the names of what contradicts what, from headers alone where that is possible.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint/huggingface/hf_directory.h"
#include "tests/support/expect_error.h"
#include "tests/support/stacked_model.h"

namespace sutor {
namespace {

using nlohmann::json;
using testing::expect_error;
using testing::OwnedTensor;
using testing::RawTensor;
using testing::TempDir;

constexpr int64_t kRows = 8, kColumns = 32, kGroups = 2;

RawTensor tensor(const std::string& name, const std::string& dtype,
                 const std::vector<int64_t>& shape, uint8_t byte = 0) {
  const int64_t bytes = SafetensorsDeclaration{name, dtype, shape}.num_bytes();
  return {name, dtype, shape,
          std::vector<std::byte>(static_cast<size_t>(bytes), static_cast<std::byte>(byte))};
}

RawTensor scales(const std::vector<int64_t>& shape, const std::string& name = "m.weight_scale") {
  const std::vector<float> ones(static_cast<size_t>(num_elements(shape)), 1.0f);
  return {name, "BF16", shape, testing::to_bytes(ones, DType::kBF16)};
}

json int4() {
  return {{"num_bits", 4},
          {"type", "int"},
          {"strategy", "group"},
          {"group_size", 16},
          {"symmetric", true}};
}

json fp8(const std::string& strategy) {
  return {{"num_bits", 8}, {"type", "float"}, {"strategy", strategy}, {"symmetric", true}};
}

json changed(json weights, const std::string& key, const json& value) {
  weights[key] = value;
  return weights;
}

json groups(const json& weights, const std::string& format) {
  return {{"quant_method", "compressed-tensors"},
          {"format", format},
          {"ignore", {"lm_head", "re:.*left[.]out.*"}},
          {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}}}}}};
}

// A model of one matrix, `m`.
class QuantizedForms : public ::testing::Test {
 protected:
  const std::vector<RawTensor> packed_ = {tensor("m.weight_packed", "I32", {kRows, kColumns / 8}),
                                          scales({kRows, kGroups}),
                                          tensor("m.weight_shape", "I64", {2})};
  const RawTensor codes_ = tensor("m.weight", "F8_E4M3", {kRows, kColumns}, 0x38);

  HfDirectory model(const json& quantization, const std::vector<RawTensor>& stored) {
    json config = {{"dtype", "float32"}};
    if (!quantization.is_null()) config["quantization_config"] = quantization;
    dir_.write("config.json", config.dump());
    std::filesystem::remove(dir_ / "model.safetensors");
    testing::write_raw(dir_ / "model.safetensors", stored);
    return HfDirectory(dir_.path());
  }
  void refused(const json& quantization, const std::vector<RawTensor>& stored,
               const std::vector<std::string>& words) {
    const HfDirectory found = model(quantization, stored);
    expect_error(ErrorCode::kBadStoredDType, words, [&] { found.check(map_); });
    EXPECT_EQ(found.fetched_bytes(), 0);
  }
  void read(const json& quantization, const std::vector<RawTensor>& stored, float value) {
    const HfDirectory found = model(quantization, stored);
    found.check(map_);
    EXPECT_TRUE(found.unexpected(map_).empty());
    OwnedTensor loaded(*map_.find("m.weight"), DType::kF32);
    found.load(*map_.find("m.weight"), loaded.view);
    EXPECT_EQ(loaded.values(), std::vector<float>(kRows * kColumns, value));
  }
  std::vector<RawTensor> with(std::vector<RawTensor> stored, const RawTensor& more) {
    stored.push_back(more);
    return stored;
  }

  TempDir dir_;
  TensorMap map_ = [] {
    TensorMap map;
    map.add({.name = "m.weight", .shape = {kRows, kColumns}});
    return map;
  }();
};

const RawTensor kZeros = tensor("m.weight_zero_point", "I32", {1, kGroups});
const RawTensor kOrder = tensor("m.weight_g_idx", "I32", {kColumns});

TEST_F(QuantizedForms, PackedNibblesAreReadAsConfigJsonSays) {
  read(groups(int4(), "pack-quantized"), packed_, -8);
  read(nullptr, packed_, -8);
  read({{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}}, packed_, -8);
  const json asymmetric = groups(changed(int4(), "symmetric", false), "pack-quantized");
  read(asymmetric, with(packed_, kZeros), 0);  // both are stored with half the range added
  read(asymmetric, with(packed_, tensor("m.weight_zero_point", "I8", {kRows, kGroups}, 1)), -9);
  read(groups(changed(int4(), "actorder", "group"), "pack-quantized"), with(packed_, kOrder), -8);
  read(groups(changed(int4(), "actorder", "weight"), "pack-quantized"), packed_, -8);
}

TEST_F(QuantizedForms, ZeroPointsAreThereExactlyWhenTheSchemeIsAsymmetric) {
  refused(groups(int4(), "pack-quantized"), with(packed_, kZeros),
          {"m.weight_packed", "m.weight_zero_point", "group_0"});
  refused(groups(changed(int4(), "symmetric", false), "pack-quantized"), packed_,
          {"has no `m.weight_zero_point`"});
  refused(groups(changed(int4(), "symmetric", false), "pack-quantized"),
          with(packed_, tensor("m.weight_zero_point", "I32", {2, kGroups})),
          {"zero points", "expected I8 [8, 2] or I32 [1, 2]"});
  refused(groups(fp8("channel"), "float-quantized"),
          {codes_, scales({kRows, 1}), tensor("m.weight_zero_point", "F8_E4M3", {kRows, 1})},
          {"m.weight_zero_point"});
}

TEST_F(QuantizedForms, TheOrderOfColumnsIsThereExactlyWhenTheSchemeHasOne) {
  refused(groups(int4(), "pack-quantized"), with(packed_, kOrder), {"has a `m.weight_g_idx`"});
  refused(groups(changed(int4(), "actorder", "group"), "pack-quantized"), packed_,
          {"has no `m.weight_g_idx`"});
  refused(groups(changed(int4(), "actorder", "group"), "pack-quantized"),
          with(packed_, tensor("m.weight_g_idx", "I32", {kColumns - 1})), {"expected I32 [32]"});
  const HfDirectory outside = model(groups(changed(int4(), "actorder", "group"), "pack-quantized"),
                                    with(packed_, tensor("m.weight_g_idx", "I32", {kColumns}, 1)));
  outside.check(map_);  // headers are right
  OwnedTensor loaded(*map_.find("m.weight"), DType::kF32);
  expect_error(ErrorCode::kBadStoredDType, {"m.weight_g_idx", "column 0", "group 16843009 of 2"},
               [&] { outside.load(*map_.find("m.weight"), loaded.view); });
  // Written by a tool that had not ordered them.
  read(groups(changed(int4(), "actorder", "group"), "pack-quantized"),
       with(packed_, tensor("m.weight_g_idx", "I32", {kColumns}, 0xff)), -8);
}

TEST_F(QuantizedForms, ScalesForATensorAChannelABlockAndAGroup) {
  const auto at = [&](const std::vector<int64_t>& shape) {
    return std::vector<RawTensor>{codes_, scales(shape)};
  };
  read(groups(fp8("tensor"), "float-quantized"), at({1}), 1);
  read(groups(fp8("tensor"), "float-quantized"), at({}), 1);
  read(groups(fp8("channel"), "float-quantized"), at({kRows, 1}), 1);
  read(groups(changed(fp8("block"), "block_structure", {3, 12}), "float-quantized"), at({3, 3}), 1);
  read(groups(changed(fp8("group"), "group_size", 16), "naive-quantized"), at({kRows, 2}), 1);
  for (const json& method : {json({{"quant_method", "fp8"}, {"activation_scheme", "static"}}),
                             json({{"quant_method", "modelopt"}, {"quant_algo", "FP8"}})}) {
    read(method, at({}), 1);
    read(method, at({1}), 1);
  }
  read({{"quant_method", "fbgemm_fp8"}}, at({kRows, 1}), 1);
  read(nullptr, {codes_, scales({kRows}, "m.weight_scale_inv")}, 1);
  refused(groups(fp8("tensor"), "float-quantized"), at({kRows, 1}), {"do not fit"});
  refused(groups(fp8("channel"), "float-quantized"), at({1}), {"do not fit"});
  refused(groups(fp8("channel"), "float-quantized"), at({1, kRows}), {"do not fit"});
  refused(nullptr, at({1, kColumns}), {"do not fit"});
  refused(groups(changed(fp8("block"), "block_structure", {4, 16}), "float-quantized"), at({3, 3}),
          {"do not fit", "4 x 16"});
  refused({{"quant_method", "fp8"}, {"weight_block_size", {4, 16}}}, at({}), {"do not fit"});
}

TEST_F(QuantizedForms, ScalesThatArePowersOfTwoInAByte) {
  for (const char* dtype : {"F8_E8M0", "U8"}) {
    for (const char* name : {"m.weight_scale_inv", "m.weight_scale"}) {
      read({{"quant_method", "fp8"}, {"weight_block_size", {4, 16}}, {"scale_fmt", "ue8m0"}},
           {codes_, tensor(name, dtype, {2, 2}, 130)}, 8);
    }
  }
}

TEST_F(QuantizedForms, ABothNamedOrMissingScaleIsNoScale) {
  refused(groups(fp8("channel"), "float-quantized"), {codes_},
          {"m.weight_scale_inv", "m.weight_scale`"});
  const HfDirectory both =
      model(nullptr, {codes_, scales({kRows, 1}), scales({kRows, 1}, "m.weight_scale_inv")});
  expect_error(ErrorCode::kBadStoredDType, {"two tensors of scales"}, [&] { both.check(map_); });
}

TEST_F(QuantizedForms, APlainTensorHasNothingOfAQuantisedOne) {
  const RawTensor plain = tensor("m.weight", "BF16", {kRows, kColumns});
  read(groups(int4(), "pack-quantized"), {plain}, 0);  // says more than it needs, and is plain
  for (const char* name : {"_scale", "_scale_inv", "_zero_point", "_g_idx"}) {
    refused(nullptr, {plain, tensor("m.weight" + std::string(name), "BF16", {kRows, 1})},
            {"not quantised", name});
  }
}

TEST_F(QuantizedForms, AnotherFormThanTheGroupsIsRefused) {
  refused(groups(changed(int4(), "num_bits", 8), "pack-quantized"), packed_, {"4 bits", "group_0"});
  refused(groups(fp8("channel"), "float-quantized"), packed_, {"I32", "group_0"});
  refused(groups(int4(), "int-quantized"), packed_, {"I32", "group_0"});
  refused(groups(changed(int4(), "group_size", 8), "pack-quantized"), packed_, {"do not fit"});
  refused(groups(int4(), "pack-quantized"), {codes_, scales({kRows, 1})}, {"F8_E4M3"});
  json other = groups(int4(), "pack-quantized");
  other["config_groups"]["group_0"]["targets"] = {"re:.*self_attn.*"};
  refused(other, packed_, {"no group", "`m`"});
  other = groups(int4(), "pack-quantized");
  other["ignore"] = {"m"};
  refused(other, packed_, {"`ignore`", "`m`"});
}

TEST_F(QuantizedForms, ModulesTakeTheFirstGroupThatNamesThem) {
  json mixed = groups(fp8("channel"), "mixed-precision");
  mixed["config_groups"]["group_1"] = {{"targets", {"re:m$", "q"}}, {"weights", int4()}};
  mixed["config_groups"]["group_1"]["format"] = "pack-quantized";
  mixed["kv_cache_scheme"] = fp8("tensor");
  read(mixed, packed_, -8);  // a pattern goes before a class
  mixed["config_groups"]["group_2"] = {{"targets", {"m"}}, {"weights", fp8("channel")}};
  refused(mixed, packed_, {"group_2"});  // and a name before a pattern
}

TEST_F(QuantizedForms, MethodsAndFormatsThatAreNotReadAreNamedWithAWayOut) {
  for (const char* method : {"gptq", "awq", "bitsandbytes", "hqq", "quanto", "torchao"}) {
    refused({{"quant_method", method}, {"bits", 4}}, packed_,
            {method, "compressed-tensors", "dequantised in BF16"});
  }
  refused({{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}}, packed_, {"NVFP4"});
  for (const char* format : {"nvfp4-pack-quantized", "mxfp4-pack-quantized", "marlin-24"}) {
    refused(groups(int4(), format), packed_, {format, "pack-quantized"});
  }
  refused(groups(changed(int4(), "num_bits", 3), "pack-quantized"), packed_, {"3 bits"});
  refused(groups(changed(fp8("channel"), "symmetric", false), "float-quantized"), packed_,
          {"group_0", "asymmetric"});
  refused(groups(changed(int4(), "strategy", "rows"), "pack-quantized"), packed_, {"rows"});
  refused(groups(changed(int4(), "actorder", 7), "pack-quantized"), packed_, {"actorder"});
  json bad = groups(int4(), "pack-quantized");
  bad["ignore"] = {"re:("};
  refused(bad, packed_, {"re:("});
  refused(nullptr, {tensor("m.weight_packed", "U8", {kRows, kColumns / 2}), scales({kRows, 2})},
          {"NVFP4", "m.weight_packed"});
}

}  // namespace
}  // namespace sutor
