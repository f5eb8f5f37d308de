// Prints what a merged export did beside writing trained values: the rounding errors of matrices of
// a quantised base, and the files of the base that it left out.
#pragma once

#include "checkpoint/export/merged_export.h"

namespace sutor {

// Prints the error beside the update. Warns (W0103, stderr) when re-quantising changed the matrices
// more than training did, or made some equal to the base's. Prints nothing when the base is not
// quantised.
void print_rounding(const RoundingReport& report);

// Names the files with other copies of the base's weights; nothing when there are none.
void print_left_out(const MergedExport& merged);

}  // namespace sutor
