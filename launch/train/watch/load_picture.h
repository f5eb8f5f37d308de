// The load of all experts as a picture: a row a layer, a column an expert.
#pragma once

#include <map>
#include <vector>

#include "launch/log/expert_metrics.h"
#include "layers/esft/expert_scores.h"

namespace sutor {

// Fills in picture, width and height. Darker: more of the layer's choices, by the square root, up
// to four times the mean; white: none. Frozen experts are grey, those of `trained` orange.
void draw_load(const ExpertScores& scores, const std::map<int, std::vector<int>>& trained,
               ExpertMetrics& into);

}  // namespace sutor
