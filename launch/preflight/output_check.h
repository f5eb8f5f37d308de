// Whether a run can write where its recipe says, tried out before anything is computed.
#pragma once

#include <filesystem>
#include <string>

#include "launch/log/run_paths.h"
#include "launch/preflight/directory_probe.h"

namespace sutor {

struct OutputReport {
  std::filesystem::path probed;  // the output folder, or the nearest one above that is there
  DirectoryProbe probe;
};

// Rank 0's: probes the output folder and checkpoints/ in it, as far as they are there; makes
// nothing. Warns of a clock that cannot be right. Throws E0220 when something else than a folder
// stands in the place of either, E0501 or E0502 naming what cannot be written.
OutputReport check_output(const RunPaths& paths);

}  // namespace sutor
