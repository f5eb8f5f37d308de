// Sees when the trained experts get clearly less of the tokens than they got when they were chosen.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "layers/esft/expert_load.h"

namespace sutor {

// A layer has drifted when its share, smoothed over about 20 steps, is below 3/4 of that at scoring
// and by more than chance explains; it has recovered at 17/20. Shares of few steps say nothing: the
// first 10 are only counted.
class DriftWatch {
 public:
  using LayerTraffic = std::map<int, Traffic>;  // global layer -> that of its trained experts

  // `scored`: of the layers to watch, when they were scored; none: nothing is ever said.
  explicit DriftWatch(LayerTraffic scored) : scored_(std::move(scored)) {}

  // The traffic of one logged step, at least of the layers of `scored`. Returns what is to be said
  // now: layers that have drifted since the last time, gathered, so that a drift of many layers is
  // told once rather than layer by layer.
  std::optional<std::string> observe(const LayerTraffic& step);

  // Those that have drifted now, rising.
  const std::set<int>& drifted() const { return drifted_; }

 private:
  struct Window {
    double choices = 0, all = 0;  // decayed sums
    double share() const { return all > 0 ? choices / all : 0; }
  };
  std::string text(const std::vector<int>& layers) const;

  LayerTraffic scored_;
  std::map<int, Window> windows_;
  std::set<int> drifted_, told_;
  int64_t seen_ = 0, told_at_ = 0;  // observations; 0: nothing was told
};

}  // namespace sutor
