// What rounding did to trained matrices of a quantised base, for people.
#pragma once

#include "checkpoint/export/merged_export.h"

namespace sutor {

// Prints the error beside the update, and warns (W0103, stderr) of re-quantised ones when the error
// is the larger one or when some came out as the base's. Nothing for a base that is not quantised.
void print_rounding(const RoundingReport& report);

}  // namespace sutor
