// Exports onto experts that are stacked, interleaved, transposed or in MXFP4: trained values
// replace the base's, are quantised again, or are dequantised with their whole layer; the verifier
// sees every flipped bit.
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/export/merged_export.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/huggingface/stored_bytes.h"
#include "checkpoint/store/open_model.h"
#include "tests/support/base_store_builder.h"
#include "tests/support/expect_error.h"
#include "tests/support/stacked_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::expect_error;
using testing::OwnedTensor;
using testing::RawTensor;
using testing::StackedModel;
using testing::TempDir;

constexpr QuantizedRule kRules[] = {QuantizedRule::kDequantize, QuantizedRule::kRequantize};

class StackedExport : public ::testing::Test {
 protected:
  std::vector<std::string> expert(int layer, int number) {
    std::vector<std::string> names;
    for (const char* projection : {"gate", "up", "down"}) {
      for (const char* kind : {"weight", "bias"}) {
        names.push_back(StackedModel::name(layer, number, projection, kind));
      }
    }
    return names;
  }
  // Changes every value by a fraction of itself that bf16 can represent.
  std::vector<TrainedTensor> train(const std::vector<std::string>& names) {
    std::vector<TrainedTensor> trained;
    for (const std::string& name : names) {
      const TensorEntry& entry = *model_.map().find(name);
      std::vector<float> values = model_.values(entry);
      for (size_t i = 0; i < values.size(); ++i) values[i] = values[i] * 1.2f + 0.01f;
      memory_.emplace_back(entry, DType::kF32, values);
      trained.push_back(trained_tensor(memory_.back().view));
      values_[name] = values;
    }
    return trained;
  }
  std::vector<float> read(const ModelDirectory& directory, const TensorEntry& entry) {
    OwnedTensor whole(entry, DType::kF32);
    directory.load(entry, whole.view);
    return whole.values();
  }
  static std::vector<float> rounded(const std::vector<float>& values) {
    const auto bytes = testing::to_bytes(values, DType::kBF16);
    std::vector<float> back(values.size());
    convert_elements(bytes.data(), DType::kBF16, reinterpret_cast<std::byte*>(back.data()),
                     DType::kF32, static_cast<int64_t>(values.size()));
    return back;
  }
  // By a formula of its own: the scale of the specification or twice that, whichever errs less.
  static std::vector<float> quantised(const std::vector<float>& values) {
    constexpr double kMagnitudes[] = {0, .5, 1, 1.5, 2, 3, 4, 6};
    std::vector<float> result;
    for (size_t group = 0; group < values.size(); group += 32) {
      double largest = 0, best_error = -1;
      for (size_t i = 0; i < 32; ++i) {
        largest = std::max<double>(largest, std::abs(values[group + i]));
      }
      std::vector<float> best;
      for (const int more : {0, 1}) {
        const double unit = std::exp2(std::floor(std::log2(largest)) - 2 + more);
        std::vector<float> numbers;
        double error = 0;
        for (size_t i = 0; i < 32; ++i) {
          const double value = std::abs(values[group + i]);
          int nearest = 0;
          for (int code = 1; code < 8; ++code) {
            const double here = std::abs(value - kMagnitudes[code] * unit);
            const double there = std::abs(value - kMagnitudes[nearest] * unit);
            if (here < there || (here == there && code % 2 == 0)) nearest = code;
          }
          const double number = kMagnitudes[nearest] * unit;
          error += (number - value) * (number - value);
          numbers.push_back(static_cast<float>(std::copysign(number, values[group + i])));
        }
        if (best.empty() || error < best_error) best = numbers, best_error = error;
      }
      result.insert(result.end(), best.begin(), best.end());
    }
    return result;
  }
  // Exports the model in this form and checks all its values.
  void check_export(const std::array<bool, 2>& in_mxfp4, QuantizedRule rule, bool from_store) {
    const HfDirectory directory(model_.write(dir_, "base", in_mxfp4));
    testing::make_store(dir_ / "base", dir_ / "store");
    const auto base = open_model(dir_ / (from_store ? "store" : "base"));
    std::vector<std::string> names = expert(0, 1);
    for (const std::string& name : expert(1, 2)) names.push_back(name);
    names.erase(names.begin() + 2);  // the up matrix of one, so that only half of a stack's rows
    const MergedExport made =
        export_merged(*base, model_.map(), train(names), dir_ / "out", {"digest", {}}, rule);
    EXPECT_EQ(made.digests.size(), names.size());
    const HfDirectory merged(dir_ / "out");
    merged.check(model_.map());
    EXPECT_TRUE(merged.unexpected(model_.map()).empty());
    for (const TensorEntry& entry : model_.map().entries()) {
      const auto found = *merged.resolve(entry);
      const bool weight = entry.layer >= 0 && entry.kind() == "weight";
      const bool was_mxfp4 = weight && in_mxfp4[static_cast<size_t>(entry.layer)];
      const bool requantised = was_mxfp4 && rule == QuantizedRule::kRequantize;
      EXPECT_EQ(found.encoding, requantised ? Encoding::kMxfp4 : Encoding::kPlain);
      std::vector<float> expected = model_.values(entry);
      if (values_.count(entry.name)) {
        expected = requantised ? quantised(values_[entry.name]) : rounded(values_[entry.name]);
        EXPECT_EQ(stored_digest(merged, entry, found), made.digests.at(entry.name));
      }
      EXPECT_EQ(read(merged, entry), expected) << entry.name;
    }
    const VerifyReport report =
        verify_merged(*base, model_.map(), dir_ / "out", made.digests, rule);
    EXPECT_EQ(report.changed, static_cast<int64_t>(names.size()));
    const bool any = in_mxfp4[0] || in_mxfp4[1];
    EXPECT_EQ(made.rounding.empty(), !any);
    if (rule == QuantizedRule::kRequantize || !any) {
      EXPECT_EQ(merged.shards()[0]->header_bytes(), directory.shards()[0]->header_bytes());
      EXPECT_EQ(dir_.read("out/config.json"), dir_.read("base/config.json"));
      EXPECT_EQ(report.dequantized, 0);
    }
  }

  TempDir dir_;
  StackedModel model_;
  std::vector<OwnedTensor> memory_;
  std::map<std::string, std::vector<float>> values_;
};

TEST_F(StackedExport, TrainedValuesReplaceTheBasesAndNothingElseChanges) {
  for (const auto& form : {std::array{false, false}, {true, true}, {false, true}}) {
    for (const QuantizedRule rule : kRules) {
      for (const bool from_store : {false, true}) {
        SCOPED_TRACE(
            fmt::format("{} {} {} {}", form[0], form[1], static_cast<int>(rule), from_store));
        for (const char* old : {"base", "store", "out"}) fs::remove_all(dir_ / old);
        memory_.clear();
        memory_.reserve(20);
        values_.clear();
        check_export(form, rule, from_store);
      }
    }
  }
}

TEST_F(StackedExport, OneTrainedLayerIsDequantisedAndListed) {
  const HfDirectory base(model_.write(dir_, "base", {true, true}));
  memory_.reserve(10);
  const MergedExport made =
      export_merged(base, model_.map(), train({StackedModel::name(1, 0, "down")}), dir_ / "out",
                    {"digest", {}}, QuantizedRule::kDequantize);
  const HfDirectory merged(dir_ / "out");
  EXPECT_TRUE(merged.find(StackedModel::stack(0) + "down_proj_blocks"));
  EXPECT_FALSE(merged.find(StackedModel::stack(1) + "down_proj_blocks"));
  EXPECT_FALSE(merged.find(StackedModel::stack(1) + "gate_up_proj_scales"));
  const auto stack = *merged.find(StackedModel::stack(1) + "gate_up_proj");
  EXPECT_EQ(stack.entry->shape, (std::vector<int64_t>{3, 64, 64}));
  EXPECT_EQ(stack.entry->dtype, DType::kBF16);
  const auto config = nlohmann::json::parse(dir_.read("out/config.json"));
  EXPECT_EQ(config["quantization_config"]["modules_to_not_convert"],
            nlohmann::json({"lm_head", "model.layers.1.mlp.experts"}));
  const VerifyReport report = verify_merged(base, model_.map(), dir_ / "out", made.digests);
  EXPECT_EQ(report.dequantized, 2);
  EXPECT_EQ(report.changed, 1);
}

TEST_F(StackedExport, NothingQuantisedLeavesNoConfigOfIt) {
  const HfDirectory base(model_.write(dir_, "base", {false, true}));
  memory_.reserve(10);
  const MergedExport made = export_merged(base, model_.map(), train(expert(1, 0)), dir_ / "out",
                                          {"digest", {}}, QuantizedRule::kDequantize);
  EXPECT_FALSE(nlohmann::json::parse(dir_.read("out/config.json")).contains("quantization_config"));
  verify_merged(base, model_.map(), dir_ / "out", made.digests);
}

TEST_F(StackedExport, ShardsKeepTheirTensorsAndTheIndexFollows) {
  const std::vector<RawTensor> stored = model_.stored({true, true});
  // Blocks in one shard, their scales in the other.
  const std::string files[] = {"model-00001-of-00002.safetensors",
                               "model-00002-of-00002.safetensors"};
  std::vector<RawTensor> parts[2];
  nlohmann::json weight_map;
  int64_t total = 0;
  for (const RawTensor& tensor : stored) {
    const size_t part = tensor.name.ends_with("_scales") ? 1 : 0;
    parts[part].push_back(tensor);
    weight_map[tensor.name] = files[part];
    total += static_cast<int64_t>(tensor.bytes.size());
  }
  dir_.write("base/config.json",
             R"({"dtype": "bfloat16", "quantization_config": {"quant_method": "mxfp4"}})");
  for (size_t part = 0; part < 2; ++part)
    testing::write_raw(dir_ / "base" / files[part], parts[part]);
  dir_.write(
      "base/model.safetensors.index.json",
      nlohmann::json{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}}.dump());
  const HfDirectory base(dir_ / "base");
  memory_.reserve(10);
  const MergedExport made = export_merged(base, model_.map(), train(expert(0, 2)), dir_ / "out",
                                          {"digest", {}}, QuantizedRule::kDequantize);
  const HfDirectory merged(dir_ / "out");  // which checks the index
  merged.check(model_.map());
  EXPECT_EQ(merged.find(StackedModel::stack(0) + "gate_up_proj")->file->name(), files[0]);
  EXPECT_EQ(merged.find(StackedModel::stack(1) + "gate_up_proj_scales")->file->name(), files[1]);
  const auto config = nlohmann::json::parse(dir_.read("out/config.json"));
  EXPECT_EQ(config["quantization_config"]["modules_to_not_convert"],
            nlohmann::json({"lm_head", "model.layers.0.mlp.experts"}));
  verify_merged(base, model_.map(), dir_ / "out", made.digests);
}

TEST_F(StackedExport, AFlippedBitAnywhereIsSeen) {
  const HfDirectory base(model_.write(dir_, "base", {true, false}));
  memory_.reserve(20);
  std::vector<std::string> names = expert(0, 1);
  for (const std::string& name : expert(1, 0)) names.push_back(name);
  const std::vector<TrainedTensor> trained = train(names);
  for (const QuantizedRule rule : kRules) {
    fs::remove_all(dir_ / "out");
    const MergedExport made =
        export_merged(base, model_.map(), trained, dir_ / "out", {"digest", {}}, rule);
    const std::string whole = dir_.read("out/model.safetensors");
    for (size_t i = 0; i < whole.size(); i += 457) {
      std::string bytes = whole;
      bytes[i] ^= 4;
      dir_.write("out/model.safetensors", bytes);
      EXPECT_THROW(verify_merged(base, model_.map(), dir_ / "out", made.digests, rule), Error)
          << "byte " << i;
    }
    dir_.write("out/model.safetensors", whole);
    dir_.write("out/config.json", dir_.read("out/config.json") + " ");
    expect_error(ErrorCode::kNotAsExpected, {"config.json"},
                 [&] { verify_merged(base, model_.map(), dir_ / "out", made.digests, rule); });
  }
}

TEST_F(StackedExport, RequantisingTheBasesValuesGivesItsBytesAndSaysSo) {
  const HfDirectory base(model_.write(dir_, "base", {true, true}));
  const std::string name = StackedModel::name(1, 1, "gate");
  const TensorEntry& entry = *model_.map().find(name);
  memory_.emplace_back(entry, DType::kF32, model_.values(entry));
  const MergedExport made = export_merged(base, model_.map(), {trained_tensor(memory_.back().view)},
                                          dir_ / "out", {"digest", {}}, QuantizedRule::kRequantize);
  EXPECT_EQ(dir_.read("out/model.safetensors"), dir_.read("base/model.safetensors"));
  EXPECT_EQ(made.rounding.unchanged, std::vector<std::string>{name});
  EXPECT_EQ(made.rounding.total().relative_error(), 0);
  const auto info = nlohmann::json::parse(dir_.read("out/sutor_export.json"));
  EXPECT_EQ(info["quantized"]["rule"], "requantize");
  EXPECT_EQ(info["quantized"]["unchanged"][0], name);
}

TEST_F(StackedExport, ValuesThatAreNoNumbersAreNotQuantised) {
  const HfDirectory base(model_.write(dir_, "base", {true, true}));
  const TensorEntry& entry = *model_.map().find(StackedModel::name(0, 1, "up"));
  std::vector<float> values = model_.values(entry);
  values[70] = std::numeric_limits<float>::quiet_NaN();
  memory_.emplace_back(entry, DType::kF32, values);
  expect_error(ErrorCode::kNotQuantizable, {entry.name, "not finite"}, [&] {
    export_merged(base, model_.map(), {trained_tensor(memory_.back().view)}, dir_ / "out",
                  {"digest", {}}, QuantizedRule::kRequantize);
  });
}

// Two FP8 matrices with uneven blocks and scales in BF16; one is trained.
TEST(Fp8Export, BlocksAtTheEdgesAndRoundedScales) {
  TempDir dir;
  const std::vector<int64_t> shape = {5, 7};
  std::vector<RawTensor> stored;
  TensorMap map;
  for (const char* name : {"a.weight", "b.weight"}) {
    RawTensor codes{name, "F8_E4M3", shape, {}};
    for (int i = 0; i < 35; ++i) codes.bytes.push_back(static_cast<std::byte>(40 + 2 * i));
    stored.push_back(codes);
    stored.push_back({std::string(name) + "_scale_inv",
                      "BF16",
                      {3, 2},
                      testing::to_bytes({.5f, 1, 2, 3, 4, 5}, DType::kBF16)});
    map.add({.name = name, .shape = shape});
  }
  dir.write("base/config.json", R"({"dtype": "bfloat16", "quantization_config":
            {"quant_method": "fp8", "weight_block_size": [2, 4], "ignored_layers": ["head"]}})");
  testing::write_raw(dir / "base/model.safetensors", stored);
  const HfDirectory base(dir / "base");
  std::vector<float> values(35);
  for (size_t i = 0; i < 35; ++i) values[i] = i < 4 ? 0 : std::sin(static_cast<float>(i)) * 9;
  for (size_t i = 7; i < 11; ++i) values[i] = 0;  // the first block is zero
  const OwnedTensor memory(*map.find("b.weight"), DType::kF32, values);
  for (const QuantizedRule rule : kRules) {
    fs::remove_all(dir / "out");
    const MergedExport made =
        export_merged(base, map, {trained_tensor(memory.view)}, dir / "out", {"x", {}}, rule);
    EXPECT_EQ(verify_merged(base, map, dir / "out", made.digests, rule).changed, 1);
    const HfDirectory merged(dir / "out");
    OwnedTensor found(*map.find("b.weight"), DType::kF32);
    merged.load(*map.find("b.weight"), found.view);
    const std::vector<float> numbers = found.values();
    for (size_t i = 0; i < 35; ++i) {
      // Half a step of three bits and what the scale was rounded by; half a step of seven.
      const float step = rule == QuantizedRule::kRequantize ? 0x1p-4f : 0x1p-8f;
      EXPECT_NEAR(numbers[i], values[i], std::abs(values[i]) * step + 0.01f) << i;
    }
    const auto config = nlohmann::json::parse(dir.read("out/config.json"));
    const auto& ignored = config["quantization_config"]["ignored_layers"];
    EXPECT_EQ(ignored.size(), rule == QuantizedRule::kRequantize ? 1u : 2u);
    EXPECT_EQ(ignored.back(), rule == QuantizedRule::kRequantize ? "head" : "b");
    const std::string whole = dir.read("out/model.safetensors");
    for (size_t i = 0; i < whole.size(); i += 3) {
      std::string bytes = whole;
      bytes[i] ^= 2;
      dir.write("out/model.safetensors", bytes);
      EXPECT_THROW(verify_merged(base, map, dir / "out", made.digests, rule), Error) << i;
    }
  }
}

TEST(Quantising, E4m3IsTheNearestNumberTiesToEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const float low = fp8_e4m3_value(static_cast<uint8_t>(code));
    const float high = fp8_e4m3_value(static_cast<uint8_t>(code + 1));
    EXPECT_EQ(fp8_e4m3_bits(low), code);
    EXPECT_EQ(fp8_e4m3_bits(-low), code | 0x80);
    const float middle = (low + high) / 2;
    EXPECT_EQ(fp8_e4m3_bits(middle), code % 2 == 0 ? code : code + 1);
    EXPECT_EQ(fp8_e4m3_bits(std::nextafter(middle, 0.0f)), code);
    EXPECT_EQ(fp8_e4m3_bits(std::nextafter(middle, 1000.0f)), code + 1);
  }
  EXPECT_EQ(fp8_e4m3_bits(1e9f), 0x7e);
}

TEST(Quantising, AGroupTakesTheScaleThatErrsLess) {
  std::vector<float> values(32, 0.0f);
  std::array<std::byte, 16> block;
  EXPECT_EQ(static_cast<int>(quantize_mxfp4_group(values.data(), block.data())), 0);
  values[0] = 7.0f;  // 6 at scale 0, 8 (4 x 2) at scale 1: equal errors, the smaller one
  EXPECT_EQ(static_cast<int>(quantize_mxfp4_group(values.data(), block.data())), 127);
  values[0] = 7.9f;
  EXPECT_EQ(static_cast<int>(quantize_mxfp4_group(values.data(), block.data())), 128);
  EXPECT_EQ(static_cast<int>(block[0]), 6);
  values[0] = std::numeric_limits<float>::max();
  EXPECT_EQ(static_cast<int>(quantize_mxfp4_group(values.data(), block.data())), 253);
  values[0] = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(static_cast<int>(quantize_mxfp4_group(values.data(), block.data())), 0);
}

}  // namespace
}  // namespace sutor
