// Rank-local names: for every golden layout the ranks together train exactly the configured set.
#include "layers/esft/name_schemes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>
#include <set>

#include "tests/support/message_of.h"
#include "tests/support/model_builders.h"

namespace sutor {
namespace {

using testing::deepseek_like;
using testing::message_of;
using testing::qwen_like;

// A model on a layout.
struct Placed {
  ModelInfo model;
  RankLayout layout;
  StageMap stages;
  ExpertPlacement placement;

  Placed(ModelInfo m, const ParallelOptions& options, int world)
      : model(std::move(m)),
        layout(options, world),
        stages(model.num_layers, options.pp),
        placement(model.num_experts, options, world) {}

  RankNames names(const TrainableSet& plan, const std::string& scheme, int rank) const {
    return rank_names(model, plan, NameScheme(scheme), layout, stages, placement, rank);
  }
};

std::vector<std::pair<std::string, ParallelOptions>> golden_layouts(std::vector<int>& worlds) {
  std::ifstream file(SUTOR_TEST_DATA "/golden/golden_groups.json");
  std::vector<std::pair<std::string, ParallelOptions>> layouts;
  const auto golden = nlohmann::json::parse(file);
  for (const auto& [name, layout] : golden.items()) {
    const auto& args = layout["args"];
    ParallelOptions options;
    options.tp = args.value("tp", 1);
    options.cp = args.value("cp", 1);
    options.pp = args.value("pp", 1);
    options.ep = args.value("ep", 1);
    options.etp = args.value("etp", 1);
    options.order = args.value("order", options.order);
    layouts.emplace_back(name, options);
    worlds.push_back(args["ws"]);
  }
  return layouts;
}

ExpertConfig random_config(const ModelInfo& model, std::mt19937& random) {
  ExpertConfig config;
  for (int layer = 0; layer < model.num_layers; ++layer) {
    if (!model.is_moe(layer) || random() % 4 == 0) continue;
    for (int id = 0; id < model.num_experts; ++id) {
      if (random() % 5 == 0) config.experts[layer].push_back(id);
    }
  }
  config.experts[model.num_layers - 1] = {1};  // never empty; 10 to 19 must not match
  return config;
}

// Back from a local name of a routed expert to (global layer, global expert), by arithmetic of the
// test's own.
std::pair<int, int> global_expert(const Placed& p, const std::string& scheme, int rank,
                                  const std::string& name) {
  static const std::map<std::string, std::regex> forms = {
      {"sutor", std::regex("layers\\.(\\d+)\\.experts\\.(\\d+)\\.(gate|up|down)_proj\\.weight")},
      {"hf", std::regex("model\\.layers\\.(\\d+)\\.mlp\\.experts\\.(\\d+)\\.\\w+\\.weight")},
      {"megatron-te",
       std::regex("decoder\\.layers\\.(\\d+)\\.mlp\\.experts\\.linear_fc[12]\\.weight(\\d+)")},
      {"megatron-local",
       std::regex(
           "decoder\\.layers\\.(\\d+)\\.mlp\\.experts\\.local_experts\\.(\\d+)\\.linear_fc[12]"
           "\\.weight")},
      {"L{local_layer}/E{expert}/{proj}", std::regex("L(\\d+)/E(\\d+)/\\w+")},
  };
  std::smatch match;
  if (!std::regex_match(name, match, forms.at(scheme))) return {-1, -1};
  int layer = std::stoi(match[1]), expert = std::stoi(match[2]);
  const RankCoordinates at = p.layout.coordinates(rank);
  if (scheme != "sutor" && scheme != "hf") {
    const int layers = p.model.num_layers, stages = p.layout.pp();
    layer += at.pp * (layers / stages) + std::min(at.pp, layers % stages);
  }
  if (scheme != "hf") expert += at.ep * (p.model.num_experts / p.layout.ep());
  return {layer, expert};
}

void expect_exact_regex(const RankNames& names, const std::string& what) {
  const std::regex regex(anchored_regex(names.trainable));
  const std::set<std::string> expected(names.trainable.begin(), names.trainable.end());
  ASSERT_EQ(expected.size(), names.trainable.size()) << what;
  for (const std::string& name : names.all) {
    ASSERT_EQ(std::regex_search(name, regex), expected.count(name) > 0) << what << " " << name;
  }
}

class Schemes : public ::testing::TestWithParam<std::string> {};

TEST_P(Schemes, P01_RanksTogetherTrainExactlyTheConfiguredExpertsOncePerReplica) {
  const std::string scheme = GetParam();
  std::mt19937 random(7);
  std::vector<int> worlds;
  const auto layouts = golden_layouts(worlds);
  for (size_t i = 0; i < layouts.size(); ++i) {
    const auto& [name, options] = layouts[i];
    for (const ModelInfo& model : {deepseek_like(7, 1, 24), qwen_like(5, 24)}) {
      const Placed p(model, options, worlds[i]);
      const ExpertConfig config = random_config(model, random);
      const TrainableSet plan = trainable_set(model, config);
      std::map<std::pair<int, int>, int> found;
      for (int rank = 0; rank < worlds[i]; ++rank) {
        const RankNames names = p.names(plan, scheme, rank);
        expect_exact_regex(names, name + " " + scheme + " rank " + std::to_string(rank));
        for (const std::string& local : names.trainable) {
          ++found[global_expert(p, scheme, rank, local)];
        }
      }
      // gate and up are one name in Megatron, so an expert has two names there and three elsewhere;
      // each stands once per replica and per tensor-parallel shard.
      const int each = (scheme.rfind("megatron", 0) == 0 ? 2 : 3) * p.layout.edp() * p.layout.etp();
      std::map<std::pair<int, int>, int> expected;
      for (const auto& [layer, ids] : config.experts) {
        for (int id : ids) expected[{layer, id}] = each;
      }
      ASSERT_EQ(found, expected) << name << " " << scheme << " " << model.family;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Schemes,
                         ::testing::Values("hf", "sutor", "megatron-te", "megatron-local",
                                           "L{local_layer}/E{expert}/{proj}"));

TEST(RankNames, WithFlagsEveryNonExpertTensorIsOnEveryRankOfItsStage) {
  std::vector<int> worlds;
  const auto layouts = golden_layouts(worlds);
  for (size_t i = 0; i < layouts.size(); ++i) {
    const auto& [name, options] = layouts[i];
    const Placed p(deepseek_like(7, 1, 24, true), options, worlds[i]);
    ExpertConfig config;
    config.experts = {{3, {1, 10, 11}}};
    config.shared_experts = config.non_expert_modules = true;
    const TrainableSet plan = trainable_set(p.model, config);
    std::map<std::string, int> found;
    for (int rank = 0; rank < worlds[i]; ++rank) {
      for (const char* scheme : {"sutor", "megatron-te", "megatron-local"}) {
        expect_exact_regex(p.names(plan, scheme, rank), name + " " + scheme);
      }
      for (const std::string& global : p.names(plan, "hf", rank).trainable) ++found[global];
    }
    ASSERT_EQ(found.size(), plan.names().size());
    for (const auto& [global, count] : found) {
      const bool routed = p.model.tensors.find(global)->role == TensorRole::kRoutedExpert;
      const int stage_ranks = worlds[i] / p.layout.pp();
      ASSERT_EQ(count, routed ? stage_ranks / p.layout.ep() : stage_ranks) << name << " " << global;
    }
  }
}

TEST(RankNames, ATiedEmbeddingTrainsOnTheLastStageToo) {
  const Placed p(qwen_like(2, 4, /*tied=*/true), {.pp = 2}, 2);
  const TrainableSet plan =
      trainable_set(p.model, {}, {.also_train = {"model\\.embed_tokens\\.weight"}});
  EXPECT_EQ(p.names(plan, "hf", 1).trainable,
            std::vector<std::string>{"model.embed_tokens.weight"});
  EXPECT_EQ(p.names(plan, "megatron-te", 0).trainable,
            std::vector<std::string>{"embedding.word_embeddings.weight"});
  EXPECT_EQ(p.names(plan, "megatron-te", 1).trainable,
            std::vector<std::string>{"output_layer.weight"});
}

TEST(RankNames, ARankWithNothingToTrainHasNoNames) {
  const Placed p(qwen_like(2, 4), {.ep = 2}, 2);
  ExpertConfig config;
  config.experts = {{0, {3}}};
  const TrainableSet plan = trainable_set(p.model, config);
  EXPECT_TRUE(p.names(plan, "hf", 0).trainable.empty());
  EXPECT_EQ(p.names(plan, "hf", 1).trainable.size(), 3U);
}

std::map<std::string, std::string> megatron(const ModelInfo& model, const char* scheme) {
  std::map<std::string, std::string> names;
  for (const TensorEntry& tensor : model.tensors.entries()) {
    names[tensor.name] = NameScheme(scheme).local_name(tensor, {5, 3}, model);
  }
  return names;
}

TEST(MegatronNames, MultiHeadLatentAttentionAndSharedExperts) {
  auto te = megatron(deepseek_like(3, 1, 4, true), "megatron-te");
  auto local = megatron(deepseek_like(3, 1, 4, true), "megatron-local");
  const std::string m = "model.layers.1.", d = "decoder.layers.5.";
  EXPECT_EQ(te[m + "input_layernorm.weight"], d + "input_layernorm.weight");
  EXPECT_EQ(te[m + "self_attn.q_a_proj.weight"], d + "self_attention.linear_q_down_proj.weight");
  EXPECT_EQ(te[m + "self_attn.q_b_proj.weight"], d + "self_attention.linear_q_up_proj.weight");
  EXPECT_EQ(te[m + "self_attn.q_a_layernorm.weight"],
            d + "self_attention.linear_q_up_proj.layer_norm_weight");
  EXPECT_EQ(local[m + "self_attn.q_a_layernorm.weight"], d + "self_attention.q_layernorm.weight");
  EXPECT_EQ(te[m + "self_attn.kv_a_proj_with_mqa.weight"],
            d + "self_attention.linear_kv_down_proj.weight");
  EXPECT_EQ(te[m + "self_attn.kv_b_proj.weight"], d + "self_attention.linear_kv_up_proj.weight");
  EXPECT_EQ(te[m + "self_attn.kv_a_layernorm.weight"],
            d + "self_attention.linear_kv_up_proj.layer_norm_weight");
  EXPECT_EQ(local[m + "self_attn.kv_a_layernorm.weight"], d + "self_attention.kv_layernorm.weight");
  EXPECT_EQ(te[m + "self_attn.o_proj.weight"], d + "self_attention.linear_proj.weight");
  EXPECT_EQ(te[m + "post_attention_layernorm.weight"], d + "pre_mlp_layernorm.weight");
  EXPECT_EQ(te[m + "mlp.gate.weight"], d + "mlp.router.weight");
  EXPECT_EQ(te[m + "mlp.experts.2.up_proj.weight"], d + "mlp.experts.linear_fc1.weight3");
  EXPECT_EQ(te[m + "mlp.experts.2.down_proj.weight"], d + "mlp.experts.linear_fc2.weight3");
  EXPECT_EQ(local[m + "mlp.experts.2.gate_proj.weight"],
            d + "mlp.experts.local_experts.3.linear_fc1.weight");
  EXPECT_EQ(te[m + "mlp.shared_experts.gate_proj.weight"],
            d + "mlp.shared_experts.linear_fc1.weight");
  EXPECT_EQ(te[m + "mlp.shared_experts.down_proj.weight"],
            d + "mlp.shared_experts.linear_fc2.weight");
  EXPECT_EQ(te["model.embed_tokens.weight"], "embedding.word_embeddings.weight");
  EXPECT_EQ(te["model.norm.weight"], "decoder.final_layernorm.weight");
  EXPECT_EQ(te["lm_head.weight"], "output_layer.weight");
}

TEST(MegatronNames, DenseLayersAndPlainQueries) {
  auto te = megatron(deepseek_like(3, 1, 4), "megatron-te");
  auto local = megatron(deepseek_like(3, 1, 4), "megatron-local");
  const std::string m = "model.layers.0.", d = "decoder.layers.5.";
  EXPECT_EQ(te[m + "self_attn.q_proj.weight"], d + "self_attention.linear_q_proj.weight");
  EXPECT_EQ(te[m + "mlp.up_proj.weight"], d + "mlp.linear_fc1.weight");
  EXPECT_EQ(te[m + "mlp.down_proj.weight"], d + "mlp.linear_fc2.weight");
  EXPECT_EQ(te[m + "post_attention_layernorm.weight"], d + "mlp.linear_fc1.layer_norm_weight");
  EXPECT_EQ(local[m + "post_attention_layernorm.weight"], d + "pre_mlp_layernorm.weight");
}

TEST(MegatronNames, GroupedQueryAttentionIsOneLinear) {
  auto te = megatron(qwen_like(2, 4), "megatron-te");
  auto local = megatron(qwen_like(2, 4), "megatron-local");
  const std::string m = "model.layers.1.", d = "decoder.layers.5.";
  for (const char* p : {"q", "k", "v"}) {
    EXPECT_EQ(te[m + "self_attn." + p + "_proj.weight"], d + "self_attention.linear_qkv.weight");
  }
  EXPECT_EQ(te[m + "self_attn.k_norm.weight"], d + "self_attention.k_layernorm.weight");
  EXPECT_EQ(te[m + "input_layernorm.weight"], d + "self_attention.linear_qkv.layer_norm_weight");
  EXPECT_EQ(local[m + "input_layernorm.weight"], d + "input_layernorm.weight");
}

TEST(MegatronNames, AFusedNameOfWhichOnlyAPartTrainsIsRefused) {
  const Placed p(qwen_like(2, 4), {}, 1);
  const TrainableSet plan = trainable_set(
      p.model, {}, {.also_train = {"model\\.layers\\.0\\.self_attn\\.q_proj\\.weight"}});
  const std::string text =
      message_of([&] { p.names(plan, "megatron-te", 0); }, ErrorCode::kNoNameInScheme);
  EXPECT_NE(text.find("linear_qkv"), std::string::npos) << text;
  EXPECT_EQ(p.names(plan, "sutor", 0).trainable,
            std::vector<std::string>{"layers.0.self_attn.q_proj.weight"});
}

TEST(NameScheme, PatternsFillInEveryPlaceholder) {
  const Placed p(qwen_like(4, 8), {.pp = 2, .ep = 2}, 4);
  ExpertConfig config;
  config.experts = {{3, {6}}};
  const TrainableSet plan = trainable_set(p.model, config);
  const auto last = [&](const char* pattern) { return p.names(plan, pattern, 3).trainable; };
  using Names = std::vector<std::string>;
  EXPECT_EQ(last("{layer}/{local_layer}/{expert}/{global_expert}/{proj}"),
            (Names{"3/1/2/6/gate_proj", "3/1/2/6/up_proj", "3/1/2/6/down_proj"}));
  EXPECT_EQ(last("l{layer}.e{expert}.{proj}_proj.w"),
            (Names{"l3.e2.gate_proj.w", "l3.e2.up_proj.w", "l3.e2.down_proj.w"}));
  EXPECT_EQ(last("l{layer}.e{expert}"), (Names{"l3.e2"}));
}

TEST(NameScheme, UnknownSchemesAndPatternsAreRefused) {
  const auto refuse = [](const char* text) {
    return message_of([&] { NameScheme scheme(text); }, ErrorCode::kBadNamePattern);
  };
  EXPECT_NE(refuse("megatron").find("megatron-te"), std::string::npos);
  EXPECT_NE(refuse("{layer}.{expert}.{projection}").find("unknown placeholder"), std::string::npos);
  EXPECT_NE(refuse("x.{expert}").find("lacks {layer}"), std::string::npos);
  EXPECT_NE(refuse("x.{layer}.{proj}").find("lacks {expert}"), std::string::npos);
  refuse("{layer}.{expert");
}

TEST(NameScheme, APatternIsRefusedWhenMoreThanRoutedExpertsTrains) {
  const Placed p(deepseek_like(3, 1, 4), {}, 1);
  ExpertConfig config;
  config.experts = {{1, {0}}};
  config.shared_experts = true;
  const TrainableSet plan = trainable_set(p.model, config);
  message_of([&] { p.names(plan, "{layer}.{expert}.{proj}", 0); }, ErrorCode::kBadNamePattern);
}

}  // namespace
}  // namespace sutor
