// The heat map is well-formed and shows what was chosen.
#include "layers/esft/heat_map.h"

#include <gtest/gtest.h>

namespace sutor {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(HeatMap, OutlinesEachChosenExpertAndTheLegendOnce) {
  ScoreTable table;
  table.num_experts = 3;
  table.token = {{1, {0.5, 0.3, 0.2}}, {2, {0.1, 0.1, 0.8}}};
  ExpertConfig config;
  config.experts = {{1, {0, 1}}, {2, {2}}};
  const std::string svg = heat_map_svg(table, config, false, "a < b & c");
  EXPECT_EQ(count(svg, "class=\"chosen\""), 4U);
  EXPECT_NE(svg.find("layer 2, expert 2: 0.8000"), std::string::npos);
  EXPECT_NE(svg.find("chosen: 3 of 6 experts"), std::string::npos);
  EXPECT_NE(svg.find("a &lt; b &amp; c"), std::string::npos);
  EXPECT_EQ(count(svg, "<svg"), 1U);
  EXPECT_EQ(count(svg, "</svg>"), 1U);
  // The highest score has the darkest shade; outlines have a white edge that shows on it.
  EXPECT_EQ(count(svg, "#303030"), 1U);
  EXPECT_EQ(count(svg, "class=\"edge\""), 3U);
  // Every expert says its value, a chosen one by its outline too.
  EXPECT_EQ(count(svg, "<title>"), 9U);
}

}  // namespace
}  // namespace sutor
