// `sutor inspect` of expert scores: ours, and the records and summaries of others.
#pragma once

#include <filesystem>

#include "launch/inspect/inspect_report.h"

namespace sutor {

// A scores.h5.
InspectReport inspect_scores(const std::filesystem::path& path);
// A summary.json, or a folder of one or of records, as `select` reads it; what it warns of is a
// line.
InspectReport inspect_foreign_scores(const std::filesystem::path& path);

}  // namespace sutor
