#include "launch/train/watch/load_picture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "launch/log/png.h"

namespace sutor {
namespace {

constexpr int kLevels = 7;      // of each hue
constexpr double kDarkest = 4;  // times the mean

// 0 white, 1-7 grey, 8-14 orange; both hues fall in brightness, so that the picture reads in grey.
std::vector<Colour> palette() {
  std::vector<Colour> colours = {{255, 255, 255}};
  const auto hue = [&](Colour light, Colour dark) {
    for (int level = 0; level < kLevels; ++level) {
      Colour colour{};
      for (size_t part = 0; part < 3; ++part) {
        const int step = (dark[part] - light[part]) * level / (kLevels - 1);
        colour[part] = static_cast<uint8_t>(light[part] + step);
      }
      colours.push_back(colour);
    }
  };
  hue({228, 232, 236}, {35, 45, 60});
  hue({255, 222, 173}, {140, 45, 4});
  return colours;
}

uint8_t shade(int64_t count, double mean, bool trained) {
  if (count == 0 || mean == 0) return 0;
  const double depth = std::sqrt(static_cast<double>(count) / mean / kDarkest);
  const int level = std::clamp(static_cast<int>(std::ceil(depth * kLevels)), 1, kLevels);
  return static_cast<uint8_t>(trained ? kLevels + level : level);
}

}  // namespace

void draw_load(const ExpertScores& scores, const std::map<int, std::vector<int>>& trained,
               ExpertMetrics& into) {
  const std::vector<int>& layers = scores.layers();
  const int experts = scores.num_experts();
  const int cell_width = std::clamp(512 / experts, 2, 16), cell_height = 6;
  into.width = experts * cell_width;
  into.height = static_cast<int>(layers.size()) * cell_height;
  std::vector<uint8_t> pixels;
  for (const int layer : layers) {
    const std::span<const int64_t> counts = scores.counts(layer);
    const double mean =
        static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0})) / experts;
    const auto ids = trained.find(layer);
    std::vector<uint8_t> row;
    for (int expert = 0; expert < experts; ++expert) {
      const bool trains = ids != trained.end() &&
                          std::binary_search(ids->second.begin(), ids->second.end(), expert);
      row.insert(row.end(), static_cast<size_t>(cell_width), shade(counts[expert], mean, trains));
    }
    for (int y = 0; y < cell_height; ++y) pixels.insert(pixels.end(), row.begin(), row.end());
  }
  into.picture = png_picture(into.width, into.height, pixels, palette());
}

}  // namespace sutor
