// The rows of eval.jsonl, read back.
#pragma once

#include <filesystem>
#include <vector>

#include "launch/log/metrics_log.h"

namespace sutor {

// In the order of the file; none when it is not there. A line that is no row (torn by a crash) is
// left out. Throws E0301 when the file cannot be read.
std::vector<EvalMetrics> read_evaluations(const std::filesystem::path& path);

}  // namespace sutor
