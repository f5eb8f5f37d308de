// The ranks of a node fetch each byte that one of them needs once, and no others: counted on one
// node and on two, from directories and base stores, with single or stacked experts, at every kind
// of layout. Every rank gets the values that it would have read itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <sstream>

#include "checkpoint/huggingface/random_model.h"
#include "launch/model/session.h"
#include "mpi_world.h"
#include "tests/support/base_store_builder.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;

const fs::path kModels = fs::path(SUTOR_TEST_DATA) / "golden" / "models";

// A copy of a model in one file, its routed experts stacked as transformers 5 has them.
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

// While it lives, this process claims to run on another host.
class NamedNode {
 public:
  explicit NamedNode(int number) {
    ::setenv("SUTOR_NODE_NAME", ("node " + std::to_string(number)).c_str(), 1);
  }
  ~NamedNode() { ::unsetenv("SUTOR_NODE_NAME"); }
  NamedNode(const NamedNode&) = delete;
};

// The distribution of ranks over nodes.
enum class Nodes { kOne, kHalves, kAlternating };

int node_of(Nodes nodes, int rank, int ranks) {
  return nodes == Nodes::kOne ? 0 : nodes == Nodes::kHalves ? rank * 2 / ranks : rank % 2;
}

// The stored bytes that the ranks of each node need, counted element by element. `whole`: a node
// needs all of every tensor, or nothing.
struct Needed {
  std::vector<int64_t> of_node;
  bool whole = true;
};

Needed needed(const ModelSource& source, Session& session, Nodes nodes) {
  Comm& world = session.parallel().world();
  std::string mine;
  for (const auto& [t, t_values] : session.store().tensors()) {
    mine +=
        fmt::format("{} {} {} {} {}\n", t.name, t.row_begin, t.row_count, t.col_begin, t.columns());
  }
  std::vector<std::map<std::string, std::vector<bool>>> needed_elements(nodes == Nodes::kOne ? 1
                                                                                             : 2);
  const std::vector<std::string> all = world.all_gather_text(mine, "shards of all ranks");
  for (int rank = 0; rank < world.size(); ++rank) {
    std::istringstream lines(all[static_cast<size_t>(rank)]);
    ShardedTensor t;
    while (lines >> t.name >> t.row_begin >> t.row_count >> t.col_begin >> t.col_count) {
      t.global_shape = source.info.tensors.find(t.name)->shape;
      std::vector<bool>& elements =
          needed_elements[static_cast<size_t>(node_of(nodes, rank, world.size()))][t.name];
      elements.resize(static_cast<size_t>(t.global_shape[0] * t.row_elements()));
      for (int64_t row = t.row_begin; row < t.row_begin + t.row_count; ++row) {
        const auto begin = elements.begin() + row * t.row_elements() + t.col_begin;
        std::fill(begin, begin + t.col_count, true);
      }
    }
  }
  Needed result;
  for (const auto& tensors : needed_elements) {
    result.of_node.push_back(0);
    for (const auto& [name, elements] : tensors) {
      const auto count = std::count(elements.begin(), elements.end(), true);
      result.of_node.back() += count * 4;  // the models are in F32
      result.whole = result.whole && count == static_cast<int64_t>(elements.size());
    }
  }
  return result;
}

// Each rank's tensors have the values that it reads itself.
void expect_values(const ModelSource& source, Session& session) {
  for (const auto& [tensor, tensor_values] : session.store().tensors()) {
    std::vector<std::byte> own(tensor.num_bytes());
    ShardedTensor direct = tensor;
    direct.data = own.data();
    source.load(direct);
    ASSERT_TRUE(std::equal(own.begin(), own.end(), tensor.data)) << tensor.name;
  }
}

struct Layout {
  const char* name;
  int ranks;  // divides their number
  ParallelOptions options;
};

const Layout kLayouts[] = {
    {"EP1", 1, {}},
    {"EP2", 2, {.ep = 2}},
    {"EP4", 4, {.ep = 4}},
    {"TP2", 2, {.tp = 2}},
    {"TP2 EP2", 2, {.tp = 2, .ep = 2}},
    {"PP2", 2, {.pp = 2}},
    {"PP2 EP2", 4, {.pp = 2, .ep = 2}},
    {"ETP2", 2, {.etp = 2}},
    {"TP2 EP2 ETP2", 4, {.tp = 2, .ep = 2, .etp = 2}},
    {"CP2", 2, {.cp = 2}},
    {"TP2, data side by side", 4, {.tp = 2, .etp = 2, .order = "dp-tp-cp-ep-pp"}},
};

void expect_once_a_node(const fs::path& path, const Layout& layout, Nodes nodes,
                        at::ScalarType dtype) {
  Comm& world = test_world();
  if (world.size() % layout.ranks != 0) return;
  const int number = node_of(nodes, world.rank(), world.size());
  SCOPED_TRACE(
      fmt::format("{} {} nodes as {}", path.string(), layout.name, static_cast<int>(nodes)));
  const NamedNode node(number);
  const ModelSource source(path);
  std::vector<std::string> names;
  for (const TensorEntry& entry : source.info.tensors.entries()) {
    if (entry.expert == 1) names.push_back(entry.name);
  }
  const TrainableSet trainable(source.info, std::move(names));
  const SessionOptions options{.parallel = layout.options, .dtype = dtype};
  Session session(source, source.info, trainable, world, options);
  const auto& reads = session.weight_reads();
  const Needed need = needed(source, session, nodes);
  ASSERT_EQ(reads.of_node.size(), need.of_node.size());
  EXPECT_EQ(session.parallel().nodes().node_of(world.rank()), number);
  EXPECT_EQ(std::accumulate(reads.of_rank.begin(), reads.of_rank.end(), int64_t{0}),
            std::accumulate(reads.of_node.begin(), reads.of_node.end(), int64_t{0}));
  for (size_t i = 0; i < reads.of_node.size(); ++i) {
    // Columns, and bytes of a block with a checksum, that the node does not need may be read too.
    EXPECT_GE(reads.of_node[i], need.of_node[i]);
    EXPECT_LE(reads.of_node[i], reads.stored);
    if (need.whole) {
      EXPECT_EQ(reads.of_node[i], need.of_node[i]);
    }
    if (nodes == Nodes::kOne) {
      EXPECT_EQ(reads.of_node[i], reads.stored);
    }
  }
  expect_values(source, session);
}

// Forms of the model by layout: a session leaves communicators behind, of which MPI has a limited
// number, so that not every form meets every layout.
TEST_P(WeightReads, OneNodeFetchesEachByteOnce) {
  for (size_t i = 0; i < std::size(kLayouts); ++i) {
    for (size_t form = 0; form < models_.size(); ++form) {
      const bool experts_only = kLayouts[i].options.ep == kLayouts[i].ranks;
      if (!experts_only && form % 2 != i % 2) continue;
      expect_once_a_node(models_[form], kLayouts[i], Nodes::kOne, at::kFloat);
    }
  }
}

TEST_P(WeightReads, TwoNodesFetchWhatEachNeedsOnce) {
  for (size_t i = 0; i < std::size(kLayouts); ++i) {
    expect_once_a_node(models_[i % 4], kLayouts[i], Nodes::kHalves, at::kBFloat16);
    expect_once_a_node(models_[(i + 2) % 4], kLayouts[i], Nodes::kAlternating, at::kFloat);
  }
}

// With experts on every rank of two nodes, each node fetches its own routed experts.
TEST_P(WeightReads, ANodeFetchesItsOwnExpertsAndNoOthers) {
  Comm& world = test_world();
  const NamedNode node(node_of(Nodes::kHalves, world.rank(), world.size()));
  for (const fs::path& path : models_) {
    SCOPED_TRACE(path.string());
    const ModelSource source(path);
    int64_t experts = 0, dense = 0;
    for (const TensorEntry& entry : source.info.tensors.entries()) {
      const ResolvedSource found = *source.directory.resolve(entry);
      (entry.expert >= 0 ? experts : dense) += found.end() - found.begin();
    }
    SessionOptions options;
    options.parallel.ep = world.size();
    Session session(source, world, options);
    EXPECT_EQ(session.weight_reads().of_node, std::vector<int64_t>(2, dense + experts / 2));
    EXPECT_EQ(session.weight_reads().stored, dense + experts);
  }
}

// Tensors of several tiles and reads, sharded by rows, at ends of tiles, and by columns.
TEST(LargeWeightReads, EachByteIsFetchedOnceANode) {
  Comm& world = test_world();
  const testing::TempDir own;
  const fs::path folder = world.broadcast_text(own.path().string(), 0, "test folder");
  if (world.rank() == 0) {
    nlohmann::json config;
    std::ifstream(kModels / "deepseek_v2_lite" / "config.json") >> config;
    config["intermediate_size"] = 270'000;  // of the first layer, which is dense
    config["vocab_size"] = 270'001;
    RandomModelOptions options;
    options.other_files["config.json"] = config.dump();
    write_random_model(folder / "plain", family_of(config).info(config).tensors, options);
    testing::make_store(folder / "plain", folder / "store");
  }
  world.barrier("models made");
  for (const char* kind : {"plain", "store"}) {
    for (const Layout& layout : kLayouts) {
      const std::string_view name = layout.name;
      if (name != "EP2" && name != "TP2" && name != "PP2 EP2") continue;
      expect_once_a_node(folder / kind, layout, Nodes::kOne, at::kBFloat16);
      expect_once_a_node(folder / kind, layout, Nodes::kAlternating, at::kFloat);
    }
  }
  world.barrier("models read");
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
