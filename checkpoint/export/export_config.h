// config.json and the index of a merged export whose tensors have other names or dtypes than the
// base's.
#pragma once

#include <map>
#include <string>

#include "checkpoint/export/export_plan.h"

namespace sutor {

// Texts of the files that the export has instead of the base's, by name: config.json, in whose
// quantization_config the modules are listed that are no longer quantised (it goes when none is),
// and the index when the base has one. None when all headers are the base's.
std::map<std::string, std::string> rewritten_files(const ModelDirectory& base,
                                                   const ExportPlan& plan);

}  // namespace sutor
