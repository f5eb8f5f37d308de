// The selection as a picture: layers x experts, the score as a shade of grey, chosen ones outlined.
// A viewer shows the value of the expert under the pointer.
#pragma once

#include <string>

#include "layers/esft/expert_scores.h"
#include "parallel_state/model/expert_config.h"

namespace sutor {

// A self-contained SVG. `by_gate` shades by gate instead of token scores. Shades are relative to
// the highest score of the table; the legend gives the numbers.
std::string heat_map_svg(const ScoreTable& scores, const ExpertConfig& config, bool by_gate,
                         const std::string& title);

}  // namespace sutor
