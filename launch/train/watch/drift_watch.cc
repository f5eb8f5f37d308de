#include "launch/train/watch/drift_watch.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr double kKept = 0.95;  // of a window, a step later
constexpr int64_t kFirst = 10;  // observations before anything is said, and between two tellings
constexpr double kDrifted = 0.75, kRecovered = 0.85;
constexpr double kDeviations = 4;

}  // namespace

std::optional<std::string> DriftWatch::observe(const LayerTraffic& step) {
  ++seen_;
  for (const auto& [layer, scored] : scored_) {
    const Traffic& now = step.at(layer);
    Window& window = windows_[layer];
    window.choices = kKept * window.choices + static_cast<double>(now.choices);
    window.all = kKept * window.all + static_cast<double>(now.all_choices);
    if (seen_ < kFirst || window.all == 0) continue;
    const double before = scored.share();
    const double chance = kDeviations * std::sqrt(before * (1 - before) / window.all);
    if (window.share() < kDrifted * before && before - window.share() > chance) {
      drifted_.insert(layer);
    } else if (window.share() > kRecovered * before) {
      drifted_.erase(layer);
      told_.erase(layer);
    }
  }
  std::vector<int> untold;
  std::set_difference(drifted_.begin(), drifted_.end(), told_.begin(), told_.end(),
                      std::back_inserter(untold));
  if (untold.empty() || (told_at_ > 0 && seen_ - told_at_ < kFirst)) return {};
  told_at_ = seen_;
  told_.insert(untold.begin(), untold.end());
  return text(untold);
}

std::string DriftWatch::text(const std::vector<int>& layers) const {
  Traffic scored;
  Window now;
  for (const int layer : layers) {
    scored.add(scored_.at(layer));
    now.choices += windows_.at(layer).choices;
    now.all += windows_.at(layer).all;
  }
  return fmt::format(
      "warning[{}]: the share of tokens at trained experts fell from {:.1f}% at scoring to {:.1f}% "
      "now ({} {}): the routers get other input than that which the experts were chosen for. Are "
      "these the data that were scored? Scoring and selecting again may choose better",
      WarningCode::kRoutingDrift, 100 * scored.share(), 100 * now.share(),
      layers.size() == 1 ? "layer" : "layers", fmt::join(layers, ", "));
}

}  // namespace sutor
