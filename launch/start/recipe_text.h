// A recipe as a person would write it: what is chosen stands as a value, every other key as a
// comment with its default; each with unit and meaning.
#pragma once

#include <string>
#include <vector>

#include "launch/start/chosen_values.h"

namespace sutor {

struct RecipeParts {
  std::string model, output;
  std::vector<std::string> train, eval;  // paths of rows
  std::string made_by;                   // the command line
  std::string facts;                     // lines about rows and model, for the head
};

// YAML that read_recipe() reads. Data sets have names that do not collide.
std::string recipe_text(const RecipeParts& parts, const ChosenValues& chosen);

}  // namespace sutor
