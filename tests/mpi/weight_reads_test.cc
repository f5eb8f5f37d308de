// A rank fetches the bytes of its own experts and of the dense weights, and no others: counted,
// from directories and base stores, with experts of their own or stacked, at every EP size of the
// ranks.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "checkpoint/open_model.h"
#include "launch/session.h"
#include "mpi_world.h"
#include "tests/support/base_store_builder.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;

const fs::path kModels = fs::path(SUTOR_TEST_DATA) / "golden" / "models";

// A copy of a model in one file, its routed experts stacked as transformers 5 holds them.
void write_stacked(const fs::path& from, const fs::path& to) {
  const ModelSource source(from);
  std::vector<SafetensorsDeclaration> declared;
  std::map<std::string, std::vector<std::byte>> bytes;
  for (const TensorEntry& entry : source.info.tensors.entries()) {
    const bool expert = entry.role == TensorRole::kRoutedExpert;
    const DiskSource& stored = entry.sources[expert ? 1 : 0];
    const std::vector<int64_t>& shape = expert ? stored.disk_shape : entry.shape;
    std::vector<std::byte>& all = bytes[stored.name];
    if (all.empty()) {
      declared.push_back({stored.name, "F32", shape});
      all.resize(static_cast<size_t>(declared.back().num_bytes()));
    }
    ShardedTensor whole{.name = entry.name,
                        .dtype = DType::kF32,
                        .global_shape = entry.shape,
                        .row_count = entry.shape[0]};
    const int64_t row = expert ? stored.index * shape[1] + stored.row_begin : 0;
    whole.data = all.data() + static_cast<size_t>(row * whole.row_elements()) * 4;
    source.directory.load(entry, whole);
  }
  fs::create_directories(to);
  fs::copy(from / "config.json", to / "config.json");
  SafetensorsWriter writer(to / "model.safetensors", declared);
  for (const SafetensorsDeclaration& tensor : declared) writer.append(bytes.at(tensor.name));
  writer.finish();
}

class WeightReads : public ::testing::TestWithParam<const char*> {
 protected:
  // Both forms of the model, each as a directory and as a store; made by rank 0.
  WeightReads() {
    Comm& world = test_world();
    const std::string folder = world.broadcast_text(own_.path().string(), 0, "test folder");
    const fs::path plain = kModels / GetParam(), stacked = fs::path(folder) / "stacked";
    models_ = {plain, stacked, fs::path(folder) / "store", fs::path(folder) / "stacked-store"};
    if (world.rank() == 0) {
      write_stacked(plain, stacked);
      testing::make_store(plain, models_[2], {.max_file_bytes = 64 << 10});
      testing::make_store(stacked, models_[3]);
    }
    world.barrier("models made");
  }
  ~WeightReads() override { test_world().barrier("models read"); }

  testing::TempDir own_;
  std::vector<fs::path> models_;
};

int64_t bytes_of(const ModelSource& source, const ShardedTensor& tensor) {
  const ResolvedSource found = *source.directory.resolve(*source.info.tensors.find(tensor.name));
  return (found.end - found.begin) / tensor.global_shape[0] * tensor.row_count;
}

TEST_P(WeightReads, EachRankFetchesItsOwnExpertsAndNoOthers) {
  Comm& world = test_world();
  for (const fs::path& path : models_) {
    for (const int ep : {1, 2, 4}) {
      if (world.size() % ep != 0) continue;
      SCOPED_TRACE(path.string() + " EP " + std::to_string(ep));
      const ModelSource source(path);
      SessionOptions options;
      options.parallel.ep = ep;
      Session session(source, world, options);
      int64_t counts[2] = {0, 0};  // dense, experts
      std::set<int> experts;
      for (const ShardedTensor& tensor : session.store().tensors()) {
        const TensorEntry& entry = *source.info.tensors.find(tensor.name);
        const bool expert = entry.role == TensorRole::kRoutedExpert;
        counts[expert] += bytes_of(source, tensor);
        if (expert) experts.insert(entry.expert);
      }
      const auto& reads = session.weight_reads();
      EXPECT_EQ(reads.of_rank.at(world.rank()), counts[0] + counts[1]);
      EXPECT_EQ(static_cast<int>(experts.size()), source.info.num_experts / ep);
      // All ranks together: every expert once a replica, everything else on every rank.
      int64_t every_expert = 0;
      for (const TensorEntry& entry : source.info.tensors.entries()) {
        if (entry.role != TensorRole::kRoutedExpert) continue;
        const ResolvedSource found = *source.directory.resolve(entry);
        every_expert += found.end - found.begin;
      }
      EXPECT_EQ(reads.stored, counts[0] + every_expert);
      int64_t sum = reads.of_rank.at(world.rank());
      world.all_reduce(std::span(&sum, 1), ReduceOp::kSum, "bytes of all ranks");
      EXPECT_EQ(sum, world.size() * counts[0] + world.size() / ep * every_expert);
    }
  }
}

TEST_P(WeightReads, AStoreGivesTheValuesOfTheDirectory) {
  Comm& world = test_world();
  std::vector<Digest> digests;
  for (const fs::path& path : models_) {
    const ModelSource source(path);
    SessionOptions options;
    options.parallel.ep = world.size();
    Session session(source, world, options);
    digests.push_back(digest_of(session.store().tensors()));
  }
  for (const Digest& digest : digests) EXPECT_EQ(digest, digests[0]);
}

INSTANTIATE_TEST_SUITE_P(Models, WeightReads,
                         ::testing::Values("deepseek_v2_lite", "deepseek_v2_grouped",
                                           "qwen3_moe_gqa"));

}  // namespace
}  // namespace sutor
