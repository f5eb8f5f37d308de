// What a training says of its routed experts while it runs: how even their load is, how much of the
// traffic the trained ones get, and whether that is still what it was when they were chosen.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launch/log/expert_metrics.h"
#include "launch/train/watch/drift_watch.h"
#include "layers/esft/expert_scores.h"

namespace sutor {

class ExpertWatch {
 public:
  struct Options {
    bool by_layer = false;      // log.experts: detailed
    int64_t picture_every = 0;  // steps; 0: no picture
    int64_t last_step = 0;      // has one in any case
  };
  // trained: global layer -> ids of its trained experts, rising. scored: the scores that they were
  // chosen by, of the same shape as those of the steps; nothing where there are none to compare
  // with.
  ExpertWatch(std::map<int, std::vector<int>> trained, const std::optional<ExpertScores>& scored,
              const Options& options);

  // step: the counts of one step's global batch. Shares are absent where no expert trains, or all
  // do.
  ExpertMetrics observe(int64_t step, const ExpertScores& counts);
  // What the last observe() found that a person should see.
  const std::optional<std::string>& warning() const { return warning_; }

 private:
  std::map<int, std::vector<int>> trained_;
  DriftWatch::LayerTraffic scored_;
  DriftWatch drift_;
  Options options_;
  std::optional<std::string> warning_;
};

}  // namespace sutor
