// What scores say about themselves.
#include "launch/eval/score_verdict.h"

#include <gtest/gtest.h>

#include <numeric>

#include "layers/esft/score_records.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

void set(ExpertScores& scores, int layer, const std::vector<int64_t>& counts) {
  const int64_t tokens = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  scores.set_layer(layer, counts, counts, tokens);
}

// Top 1 of four experts, in layers 2 and 3.
struct Halves {
  ExpertScores first{{2, 3}, 4, 1}, all{{2, 3}, 4, 1};
  // In layer 3 the halves choose other experts.
  Halves() {
    set(first, 2, {90, 5, 5, 0});
    set(first, 3, {90, 5, 5, 0});
    set(all, 2, {180, 10, 10, 0});
    set(all, 3, {95, 95, 10, 0});
  }
};

TEST(HalfOverlap, IsTheShareThatBothHalvesChoose) {
  const Halves halves;
  const auto overlap = half_overlap(halves.all, halves.first, {});
  ASSERT_TRUE(overlap);
  EXPECT_EQ(overlap->total, 0.5);
  EXPECT_EQ(overlap->worst, 0);
  EXPECT_EQ(overlap->worst_layer, 3);
  EXPECT_EQ(overlap->first_tokens, 100);
  EXPECT_EQ(overlap->second_tokens, 100);
  EXPECT_EQ(halves_line(overlap, {}),
            "halves   either half of the sample selects (token, top_p 0.2) 50% of what the other "
            "does, least in layer 3: 0%");
}

TEST(HalfOverlap, OfEqualHalvesIsWhole) {
  ExpertScores first({2}, 4, 1), all({2}, 4, 1);
  set(first, 2, {10, 20, 30, 40});
  set(all, 2, {20, 40, 60, 80});
  for (const char* method : {"token", "gate", "random", "none"}) {
    EXPECT_EQ(half_overlap(all, first, {.method = method})->total, 1) << method;
  }
  EXPECT_EQ(half_overlap(all, first, {.method = "top_n", .n = 3})->total, 1);
}

TEST(HalfOverlap, OfOneDocumentIsNotSaid) {
  ExpertScores none({2}, 4, 1), all({2}, 4, 1);
  set(all, 2, {20, 40, 60, 80});
  EXPECT_FALSE(half_overlap(all, none, {}));
  EXPECT_NE(halves_line({}, {}).find("too small"), std::string::npos);
}

TEST(ScoreVerdict, NamesDeadAndHotExperts) {
  const Halves halves;
  EXPECT_EQ(dead_line(halves.all), "dead     2 of 8 experts got no token: L2:e3 L3:e3");
  EXPECT_EQ(hot_line(halves.all),
            "hot      L2:e0 90.0% (3.6 x the mean), L3:e0 47.5% (1.9 x the mean)");
  ExpertScores many({2}, 12, 1);
  set(many, 2, {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_NE(dead_line(many).find("L2:e8 and 3 more"), std::string::npos) << dead_line(many);
}

TEST(ScoreVerdict, WarnsOfASampleThatIsTooSmallAndOfFewLargeExperts) {
  const Halves halves;
  Recipe recipe;
  ModelInfo model{.num_layers = 4, .num_experts = 4, .top_k = 1};
  model.moe_layer = {false, false, true, true};
  for (int layer = 2; layer < 4; ++layer) {
    for (int expert = 0; expert < 4; ++expert) {
      TensorEntry entry;
      entry.name = fmt::format("model.layers.{}.experts.{}.up.weight", layer, expert);
      entry.shape = {5, 2};
      entry.role = TensorRole::kRoutedExpert;
      entry.layer = layer;
      entry.expert = expert;
      model.tensors.add(entry);
    }
  }
  const auto overlap = half_overlap(halves.all, halves.first, {});
  auto warnings = score_warnings(recipe, model, halves.all, overlap, recipe.esft.score.tokens);
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_NE(warnings[0].find("warning[W0309]"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[0].find("Raise esft.score.tokens"), std::string::npos) << warnings[0];
  EXPECT_NE(warnings[1].find("warning[W0308]"), std::string::npos) << warnings[1];
  EXPECT_NE(warnings[1].find("2 of 8 experts, 25.0% of all parameters"), std::string::npos)
      << warnings[1];
  // All data were scored: a larger budget gives no more.
  warnings = score_warnings(recipe, model, halves.all, overlap, 200);
  EXPECT_NE(warnings[0].find("All training data were scored"), std::string::npos) << warnings[0];
  model.num_experts = 64;
  warnings = score_warnings(recipe, model, halves.all, HalfOverlap{.total = 0.9}, 200);
  EXPECT_TRUE(warnings.empty());
}

TEST(Scores, KeepTheFirstHalfInTheirFile) {
  const testing::TempDir dir;
  const Halves halves;
  write_scores(halves.all, {}, dir / "scores.h5", halves.first);
  const StoredScores back = read_scores(dir / "scores.h5");
  ASSERT_TRUE(back.first_half);
  EXPECT_TRUE(std::equal(halves.first.flat().begin(), halves.first.flat().end(),
                         back.first_half->flat().begin()));
  write_scores(halves.all, {}, dir / "old.h5");
  EXPECT_FALSE(read_scores(dir / "old.h5").first_half);
  // More in a part than in the whole.
  write_scores(halves.first, {}, dir / "bad.h5", halves.all);
  EXPECT_NE(testing::expect_error(ErrorCode::kNotScores, [&] { read_scores(dir / "bad.h5"); })
                .find("first half"),
            std::string::npos);
}

}  // namespace
}  // namespace sutor
