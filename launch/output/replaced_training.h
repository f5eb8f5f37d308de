// A training that `--overwrite` replaces: it lies aside in the run directory, and is deleted when
// the new one has a checkpoint. Until then an error, or the start after a kill, puts it back.
// For rank 0, which holds the lock of the run directory.
#pragma once

#include <filesystem>

#include "launch/log/run_paths.h"

namespace sutor {

class ReplacedTraining {
 public:
  // Moves checkpoints, logs and the resolved recipe aside, and says so; nothing happens when there
  // are none. Throws E0220 when something of another program is among them, E0502.
  explicit ReplacedTraining(const RunPaths& paths);
  // Puts it back, and says so, unless the new training has a checkpoint.
  ~ReplacedTraining();
  ReplacedTraining(const ReplacedTraining&) = delete;
  ReplacedTraining& operator=(const ReplacedTraining&) = delete;

  // The new training has a checkpoint: deletes the old one. Prints a warning when it cannot.
  void remove();

 private:
  RunPaths paths_;
  std::filesystem::path aside_;  // empty: there is none
};

// What a kill left aside is put back, or deleted when the new training has a checkpoint; says
// which. When the new one has checkpoints and none can be read, both stay where they are.
void settle_replaced_training(const RunPaths& paths);

}  // namespace sutor
