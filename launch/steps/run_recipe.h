// A whole recipe, as `sutor run` does it: its steps in order, each unless it is still valid.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "csrc/comm/comm.h"
#include "recipes/recipe.h"

namespace sutor {

struct RunMode {
  bool overwrite = false;  // train and export anew
  std::string from = "";   // a checkpoint of another run that training begins from
};

// Collective. Rank 0 says which steps are still valid (step_ledger.h). An unfinished training goes
// on; one of other keys or data is refused (E0221, E0350) unless mode.overwrite replaces it. Prints
// "== score" or "== score: still valid, skipped" on rank 0, and what the steps print.
void run_recipe(const Recipe& recipe, Comm& world, const RunMode& mode,
                const nlohmann::json& provenance);

}  // namespace sutor
