// Overlays give any rows and columns of their tensors as those of the whole ones, bit by bit.
#include "launch/model/overlay.h"

#include <gtest/gtest.h>

#include <deque>

#include "checkpoint/huggingface/hf_directory.h"
#include "launch/model/adapter_merge.h"
#include "layers/lora/lora_params.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::OwnedTensor;
using testing::SampleValues;
using testing::TempDir;

const std::string kWeight = "model.layers.0.self_attn.o_proj.weight";

TensorEntry entry_of(const std::string& name, std::vector<int64_t> shape) {
  TensorEntry entry;
  entry.name = name;
  entry.shape = std::move(shape);
  return entry;
}

using Load = std::function<void(const ShardedTensor&)>;

void expect_pieces_of_whole(const TensorEntry& entry, DType dtype, const Load& load) {
  OwnedTensor full(entry, dtype);
  load(full.view);
  const std::vector<float> values = full.values();
  const int64_t rows = entry.shape[0], row = entry.shape[1];
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < row; ++c) {
      for (int64_t c_end = c; c_end <= row; ++c_end) {
        OwnedTensor piece(entry, dtype, r, rows - r, c, c_end - c);
        load(piece.view);
        std::vector<float> expected;
        for (int64_t i = r; i < rows; ++i) {
          expected.insert(expected.end(), values.begin() + i * row + c,
                          values.begin() + i * row + c_end);
        }
        ASSERT_EQ(piece.values(), expected) << entry.name << " from " << r << ", " << c;
      }
    }
  }
}

class Overlays : public ::testing::Test {
 protected:
  fs::path save(const std::vector<IndexedTensor>& tensors, const nlohmann::json& lora = {}) {
    SampleValues values(tensors);
    CheckpointMeta meta = testing::sample_meta(1);
    base_ = meta.base_digest;
    if (lora.is_object()) meta.state["lora"] = lora;
    begin_checkpoint(dir_.path(), 1, "u");
    return publish_checkpoint(dir_.path(), 1, "u",
                              testing::write_shards(dir_.path(), 1, "u", values, 2), meta, tensors);
  }
  std::function<void(ShardedTensor&)> load_base() {
    return [this](ShardedTensor& piece) { whole_.read(piece); };
  }

  TempDir dir_;
  std::string base_;
  TensorEntry entry_ = entry_of(kWeight, {5, 12});
  std::vector<float> base_values_ = std::vector<float>(60, 0.375f);
  OwnedTensor memory_{entry_, DType::kF32, base_values_};
  TrainedTensor whole_ = trained_tensor(memory_.view);
};

TEST_F(Overlays, OfACheckpointGivesColumns) {
  const Overlay overlay =
      Overlay::of_checkpoint(save({{kWeight, DType::kF32, {5, 12}}}), base_, load_base());
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    expect_pieces_of_whole(entry_, dtype,
                           [&](const ShardedTensor& piece) { EXPECT_TRUE(overlay.load(piece)); });
  }
}

TEST_F(Overlays, OfLowRankPairsGivesColumnsOfTheAdaptedMatrix) {
  const Overlay overlay =
      Overlay::of_checkpoint(save({{lora_name(kWeight, 'A'), DType::kF32, {3, 12}},
                                   {lora_name(kWeight, 'B'), DType::kF32, {5, 3}}},
                                  {{"rank", 3}, {"alpha", 6}}),
                             base_, load_base());
  ASSERT_EQ(overlay.tensors().size(), 1u);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    expect_pieces_of_whole(entry_, dtype,
                           [&](const ShardedTensor& piece) { EXPECT_TRUE(overlay.load(piece)); });
  }
  OwnedTensor adapted(entry_, DType::kF32);
  overlay.load(adapted.view);
  EXPECT_NE(adapted.values(), base_values_);
}

TEST_F(Overlays, SumsOfChangesGiveColumns) {
  const ModelInfo model = [&] {
    ModelInfo info;
    TensorEntry entry = entry_;
    entry.sources = {{.name = kWeight}};
    info.tensors.add(entry);
    return info;
  }();
  const fs::path path = testing::write_single(dir_, "m", {{kWeight, {5, 12}, base_values_}});
  const HfDirectory directory(path);
  std::vector<Overlay> adapters;
  std::deque<OwnedTensor> memory;
  for (const float step : {0.25f, 0.5f}) {
    std::vector<float> values = base_values_;
    for (size_t i = 0; i < values.size(); ++i) values[i] += step * static_cast<float>(i);
    memory.emplace_back(entry_, DType::kF32, values);
    const fs::path adapter = dir_ / ("adapter" + std::to_string(memory.size()));
    write_adapter(adapter, {trained_tensor(memory.back().view)}, {},
                  {directory.digest().text(), {}});
    adapters.push_back(Overlay::of_adapter(adapter, directory, model));
  }
  const auto merged =
      merge_adapters(adapters, find_conflicts(adapters), ConflictRule::kAdd, load_base());
  ASSERT_EQ(merged.size(), 1u);
  expect_pieces_of_whole(entry_, DType::kF32, merged[0].read);
}

}  // namespace
}  // namespace sutor
