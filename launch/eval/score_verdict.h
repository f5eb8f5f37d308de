// What scores say about themselves: whether the sample was large enough, which experts nothing or
// much reaches, and whether choosing experts saves anything in this model.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/esft/esft_options.h"
#include "layers/esft/expert_scores.h"
#include "parallel_state/model/model_info.h"
#include "recipes/recipe.h"

namespace sutor {

// How far the two halves of a sample choose the same experts: twice the experts that both choose,
// over all that each chooses. 1: the same; 0: none in common.
struct HalfOverlap {
  double total = 0;
  int worst_layer = 0;
  double worst = 0;
  int64_t first_tokens = 0, second_tokens = 0;
};
// Chooses from each half as `options` do; by token scores where those do not go by scores (random,
// none). Nothing where a half has no tokens, or the options do not fit the scores, which `select`
// is to say.
std::optional<HalfOverlap> half_overlap(const ExpertScores& scores, const ExpertScores& first_half,
                                        const SelectOptions& options);

// Below this the sample is said to be too small (W0309).
inline constexpr double kEnoughOverlap = 0.8;

// Lines for the console: "halves   ...", "dead     ...", "hot      ...".
std::string halves_line(const std::optional<HalfOverlap>& overlap, const SelectOptions& options);
std::string dead_line(const ExpertScores& scores);
std::string hot_line(const ExpertScores& scores);

// W0308 and W0309, where they are due. tokens: that were scored, fewer than esft.score.tokens where
// the data have no more.
std::vector<std::string> score_warnings(const Recipe& recipe, const ModelInfo& model,
                                        const ExpertScores& scores,
                                        const std::optional<HalfOverlap>& overlap, int64_t tokens);

}  // namespace sutor
