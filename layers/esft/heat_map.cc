// The SVG heat map of a selection.
#include "layers/esft/heat_map.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr int kLeft = 64, kTop = 64, kBottom = 76, kRight = 24;
constexpr int kRowHeight = 14;
constexpr int kDarkest = 48;          // outlines have a white edge, which shows on it
constexpr size_t kMostValues = 8192;  // beyond it, only chosen experts say their value

struct Picture {
  const std::map<int, std::vector<double>>& scores;
  const ExpertConfig& config;
  int columns = 0;
  int cell = 0;  // width in pixels
  double highest = 0;

  int width() const { return std::max(kLeft + columns * cell + kRight, 520); }
  int rows_end() const { return kTop + static_cast<int>(scores.size()) * kRowHeight; }
};

std::string escape(const std::string& text) {
  std::string result;
  for (char c : text) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else {
      result += c;
    }
  }
  return result;
}

// The square root makes small scores distinguishable: most are far below the highest.
std::string shade(double share) {
  const double depth = std::sqrt(std::clamp(share, 0.0, 1.0));
  const int grey = 255 - static_cast<int>(std::lround(depth * (255 - kDarkest)));
  return fmt::format("#{0:02x}{0:02x}{0:02x}", grey);
}

std::string value_text(int layer, size_t expert, double value) {
  return fmt::format("<title>layer {}, expert {}: {:.4f}</title>", layer, expert, value);
}

// Every expert says its value to the pointer. Of large models neighbours of one shade become one
// rectangle instead, which keeps the file small.
std::string cells(const Picture& p, int layer, const std::vector<double>& values, int y) {
  std::string text;
  if (p.scores.size() * values.size() <= kMostValues) {
    for (size_t e = 0; e < values.size(); ++e) {
      text +=
          fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\">{}</rect>\n",
                      kLeft + static_cast<int>(e) * p.cell, y, p.cell, kRowHeight,
                      shade(values[e] / p.highest), value_text(layer, e, values[e]));
    }
    return text;
  }
  size_t begin = 0;
  for (size_t e = 1; e <= values.size(); ++e) {
    const std::string fill = shade(values[begin] / p.highest);
    if (e < values.size() && shade(values[e] / p.highest) == fill) continue;
    text += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n",
                        kLeft + static_cast<int>(begin) * p.cell, y,
                        static_cast<int>(e - begin) * p.cell, kRowHeight, fill);
    begin = e;
  }
  return text;
}

std::string outlines(const Picture& p, int layer, const std::vector<double>& values, int y) {
  const auto chosen = p.config.experts.find(layer);
  if (chosen == p.config.experts.end()) return "";
  std::string text;
  for (int id : std::set<int>(chosen->second.begin(), chosen->second.end())) {
    const std::string place =
        fmt::format("x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", kLeft + id * p.cell + 1, y + 1,
                    p.cell - 2, kRowHeight - 2);
    text += fmt::format("<rect class=\"edge\" {0}/>\n<rect class=\"chosen\" {0}>{1}</rect>\n",
                        place, value_text(layer, static_cast<size_t>(id), values.at(id)));
  }
  return text;
}

std::string axes(const Picture& p) {
  std::string text = fmt::format(
      "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">layer</text>\n"
      "<text x=\"{}\" y=\"{}\">expert</text>\n",
      kLeft - 8, kTop - 22, kLeft, kTop - 22);
  const int step = p.columns <= 16 ? 1 : p.columns <= 64 ? 8 : 16;
  for (int e = 0; e < p.columns; e += step) {
    text += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                        kLeft + e * p.cell + p.cell / 2, kTop - 6, e);
  }
  text += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#666\"/>\n", kLeft,
      kTop, p.columns * p.cell, p.rows_end() - kTop);
  return text;
}

std::string legend(const Picture& p, bool by_gate) {
  constexpr int kSteps = 24, kStepWidth = 8;
  const int y = p.rows_end() + 24;
  std::string text =
      fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">0</text>\n", kLeft - 6, y + 11);
  for (int i = 0; i < kSteps; ++i) {
    // The bar is linear in the score, so its shades are those of the cells.
    text +=
        fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n",
                    kLeft + i * kStepWidth, y, kStepWidth, kRowHeight, shade((i + 0.5) / kSteps));
  }
  const int end = kLeft + kSteps * kStepWidth;
  text += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#666\"/>\n"
      "<text x=\"{}\" y=\"{}\">{:.4f} {}</text>\n",
      kLeft, y, kSteps * kStepWidth, kRowHeight, end + 6, y + 11, p.highest,
      by_gate ? "gate score (routing weight a token)" : "token score (share of selections)");
  text += fmt::format(
      "<rect class=\"chosen\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n"
      "<text x=\"{}\" y=\"{}\">chosen: {} of {} experts</text>\n",
      kLeft + 1, y + 23, std::max(p.cell, 8) - 2, kRowHeight - 2, kLeft + std::max(p.cell, 8) + 6,
      y + 33, p.config.num_experts(), p.columns * static_cast<int>(p.scores.size()));
  return text;
}

}  // namespace

std::string heat_map_svg(const ScoreTable& table, const ExpertConfig& config, bool by_gate,
                         const std::string& title) {
  Picture p{by_gate ? table.gate : table.token, config};
  p.columns = table.num_experts;
  p.cell = std::clamp(1024 / std::max(p.columns, 1), 6, 24);
  for (const auto& [layer, values] : p.scores) {
    for (double value : values) p.highest = std::max(p.highest, value);
  }
  if (p.highest <= 0) p.highest = 1;
  const int height = p.rows_end() + kBottom;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" font-family=\"sans-serif\" font-size=\"11\">\n"
      "<style>.chosen {{ fill: none; stroke: #000; stroke-width: 2; pointer-events: all }} .edge "
      "{{ fill: none; stroke: #fff; stroke-width: 4 }}</style>\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n"
      "<text x=\"{2}\" y=\"22\" font-size=\"14\">{3}</text>\n",
      p.width(), height, kLeft, escape(title));
  svg += axes(p);
  std::string marks;  // drawn after all cells, or neighbours would cover them
  int y = kTop;
  for (const auto& [layer, values] : p.scores) {
    svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kLeft - 8, y + 11,
                       layer);
    svg += cells(p, layer, values, y);
    marks += outlines(p, layer, values, y);
    y += kRowHeight;
  }
  return svg + marks + legend(p, by_gate) + "</svg>\n";
}

}  // namespace sutor
