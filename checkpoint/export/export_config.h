// config.json and the index of a merged export whose tensors have other names or dtypes than the
// base's.
#pragma once

#include <map>
#include <string>

#include "checkpoint/export/export_plan.h"

namespace sutor {

// The texts of the files that differ from the base's, by name: config.json, whose
// quantization_config lists the modules that are no longer quantised (and is removed when no tensor
// is), and the index when the base has one. Empty when all headers are the base's.
std::map<std::string, std::string> rewritten_files(const ModelDirectory& base,
                                                   const ExportPlan& plan);

}  // namespace sutor
