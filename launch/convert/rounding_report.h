// Prints the rounding errors of the trained matrices of a quantised base.
#pragma once

#include "checkpoint/export/merged_export.h"

namespace sutor {

// Prints the error beside the update. Warns (W0103, stderr) when re-quantising changed the matrices
// more than training did, or made some equal to the base's. Prints nothing when the base is not
// quantised.
void print_rounding(const RoundingReport& report);

}  // namespace sutor
