// Scores of the completions of an evaluation set that names scorers.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "launch/eval/text_generation.h"
#include "launch/model/session.h"
#include "recipes/recipe.h"

namespace sutor {

struct SetScores {
  TextResult generated;
  std::map<std::string, double> means;  // by scorer; the same on all ranks
};

// Completes the set's prompts into `out` and scores them there. Collective; rank 0 runs the Python
// steps. Throws what generate_text() and scoring do.
SetScores score_set(const Recipe& recipe, const Session& session, const DataSource& set,
                    const std::filesystem::path& out);

}  // namespace sutor
