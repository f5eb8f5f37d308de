// The small files of a merged export that are not the base's: config.json and the index, where
// tensors have other names or dtypes, and generation_config.json, where it lacks an end token.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "checkpoint/export/export_plan.h"

namespace sutor {

// The texts of the files that differ from the base's, by name: config.json, whose
// quantization_config lists the modules that are no longer quantised (and is removed when no tensor
// is), and the index when the base has one, where headers are not the base's; and
// generation_config.json, where the base does not stop at the tokens that ended what was trained.
std::map<std::string, std::string> rewritten_files(const ModelDirectory& base,
                                                   const ExportPlan& plan,
                                                   const std::set<int64_t>& end_tokens);

}  // namespace sutor
