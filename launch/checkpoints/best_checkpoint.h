// Which checkpoint is the best: by the evaluations that are on the disk, not by the pointer BEST,
// which a crash may leave behind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/partial/checkpoint_list.h"
#include "launch/log/metrics_log.h"

namespace sutor {

// The best value of a metric ("task.loss") so far, and the step that had it; -1: none.
struct BestValue {
  std::string metric;
  double value = 0;
  int64_t step = -1;
};

// `known`, or the best of the evaluations up to step `last` whose checkpoint is still there. Of
// equal ones the first counts.
BestValue best_of(BestValue known, const std::vector<EvalMetrics>& evaluations,
                  const std::filesystem::path& checkpoints, int64_t last);

// The best checkpoint of a training whose newest one is `newest`. Nothing when no evaluation says
// which it is. Throws E0301 when the evaluations cannot be read.
std::optional<CheckpointEntry> best_checkpoint(const std::filesystem::path& checkpoints,
                                               const NewestCheckpoint& newest);
// Its metric and value, "task.loss 2.912345"; empty when there is none.
std::string best_text(const std::filesystem::path& checkpoints, const NewestCheckpoint& newest);

}  // namespace sutor
