// What a step says of the experts, and the picture of their load.
#include "launch/train/watch/expert_watch.h"

#include <gtest/gtest.h>

#include "launch/log/png.h"
#include "launch/train/watch/load_picture.h"

namespace sutor {
namespace {

// Two layers of four experts, top 1.
ExpertScores counts_of(const std::vector<int64_t>& first, const std::vector<int64_t>& second) {
  ExpertScores scores({1, 7}, 4, 1);
  for (const auto& [layer, counts] : {std::pair{1, &first}, {7, &second}}) {
    int64_t tokens = 0;
    std::vector<int64_t> gates;
    for (const int64_t count : *counts) {
      tokens += count;
      gates.push_back(2 * count);
    }
    scores.set_layer(layer, *counts, gates, tokens);
  }
  return scores;
}

const std::map<int, std::vector<int>> kTrained = {{1, {0}}, {7, {1, 3}}};

TEST(ExpertWatch, SaysLoadAndSharesInBrief) {
  ExpertWatch watch(kTrained, counts_of({5, 5, 5, 5}, {5, 5, 5, 5}), {});
  const ExpertMetrics metrics = watch.observe(1, counts_of({2, 2, 3, 3}, {0, 1, 9, 0}));
  EXPECT_EQ(metrics.text, "load 3.6 (L7:e2) dead 2 share 15% (was 38%)");
  EXPECT_EQ(metrics.json["load_max_over_mean"], 3.6);
  EXPECT_EQ(metrics.json["layer"], 7);
  EXPECT_EQ(metrics.json["expert"], 2);
  EXPECT_EQ(metrics.json["dead"], 2);
  EXPECT_EQ(metrics.json["share"], 3.0 / 20);
  EXPECT_EQ(metrics.json["share_at_scoring"], 15.0 / 40);
  EXPECT_EQ(metrics.json["gate_share"], 3.0 / 20);
  EXPECT_TRUE(metrics.json["drifted_layers"].empty());
  EXPECT_FALSE(metrics.json.contains("layers"));
  EXPECT_TRUE(metrics.picture.empty());
  std::map<std::string, double> scalars(metrics.scalars.begin(), metrics.scalars.end());
  EXPECT_EQ(scalars.at("experts/dead"), 2);
  EXPECT_EQ(scalars.at("experts/share"), 3.0 / 20);
  EXPECT_EQ(scalars.count("experts/layer"), 0u);
}

TEST(ExpertWatch, InDetailHasEveryLayer) {
  ExpertWatch watch(kTrained, counts_of({5, 5, 5, 5}, {5, 5, 5, 5}), {.by_layer = true});
  const ExpertMetrics metrics = watch.observe(1, counts_of({2, 2, 3, 3}, {0, 1, 9, 0}));
  const auto& layers = metrics.json["layers"];
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_EQ(layers[1]["layer"], 7);
  EXPECT_EQ(layers[1]["counts"], (std::vector<int64_t>{0, 1, 9, 0}));
  EXPECT_EQ(layers[1]["dead"], (std::vector<int>{0, 3}));
  EXPECT_EQ(layers[1]["trained"], (std::vector<int>{1, 3}));
  EXPECT_EQ(layers[1]["share"], 0.1);
  EXPECT_EQ(layers[1]["share_at_scoring"], 0.5);
  EXPECT_EQ(layers[0]["tokens"], 10);
}

TEST(ExpertWatch, HasNoSharesWhereNothingOrEverythingTrains) {
  ExpertWatch watch({}, {}, {});
  const ExpertMetrics metrics = watch.observe(1, counts_of({1, 0, 0, 0}, {1, 0, 0, 0}));
  EXPECT_EQ(metrics.text, "load 4.0 (L1:e0) dead 6");
  EXPECT_FALSE(metrics.json.contains("share"));
}

TEST(ExpertWatch, WithoutScoresComparesWithNothing) {
  ExpertWatch watch(kTrained, {}, {});
  const ExpertMetrics metrics = watch.observe(1, counts_of({2, 2, 3, 3}, {0, 1, 9, 0}));
  EXPECT_EQ(metrics.text, "load 3.6 (L7:e2) dead 2 share 15%");
  EXPECT_FALSE(metrics.json.contains("share_at_scoring"));
}

TEST(ExpertWatch, WarnsOfADriftOnce) {
  ExpertWatch watch(kTrained, counts_of({500, 0, 0, 500}, {0, 500, 0, 500}), {});
  int warned = 0;
  for (int step = 1; step <= 40; ++step) {
    const ExpertMetrics metrics =
        watch.observe(step, counts_of({100, 400, 400, 100}, {1, 9, 9, 9}));
    warned += watch.warning().has_value();
    if (step > 20) {
      EXPECT_EQ(metrics.json["drifted_layers"], (std::vector<int>{1, 7}));
    }
  }
  EXPECT_EQ(warned, 1);
}

TEST(ExpertWatch, DrawsAtItsStepsAndTheLast) {
  ExpertWatch watch(kTrained, {}, {.picture_every = 4, .last_step = 6});
  std::vector<int> drawn;
  for (int step = 1; step <= 6; ++step) {
    if (!watch.observe(step, counts_of({1, 1, 1, 1}, {1, 1, 1, 1})).picture.empty()) {
      drawn.push_back(step);
    }
  }
  EXPECT_EQ(drawn, (std::vector<int>{4, 6}));
}

TEST(Png, HasTheChecksumsAndRowsOfItsFormat) {
  // 3 x 2 pixels, as Python's zlib and struct give them.
  const std::vector<uint8_t> pixels = {0, 1, 2, 2, 1, 0};
  const std::string png = png_picture(3, 2, pixels, {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}});
  std::string hex;
  for (const char c : png) {
    const char digits[] = "0123456789abcdef";
    hex += digits[static_cast<uint8_t>(c) >> 4];
    hex += digits[static_cast<uint8_t>(c) & 15];
  }
  EXPECT_EQ(hex,
            "89504e470d0a1a0a0000000d49484452000000030000000204030000006f5a7b2900000009504c54"
            "45ff000000ff000000ff2d4acd8a00000011494441547801010600f9ff00012000210000cd00438b"
            "01ac610000000049454e44ae426082");
}

TEST(LoadPicture, HasACellForEveryExpert) {
  ExpertMetrics metrics;
  draw_load(counts_of({1, 0, 2, 8}, {0, 0, 0, 4}), kTrained, metrics);
  EXPECT_EQ(metrics.width, 4 * 16);
  EXPECT_EQ(metrics.height, 2 * 6);
  EXPECT_TRUE(metrics.picture.starts_with("\x89PNG\r\n"));
}

}  // namespace
}  // namespace sutor
