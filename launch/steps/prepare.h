// Step `prepare` of a recipe: rows -> token stores, by running tools/prepare.py.
#pragma once

#include "recipes/recipe.h"

namespace sutor {

// Makes tokens/<name>.tokens.h5 of every set of data.train and data.eval; prints a summary line for
// each, and its first `show` documents with the trained tokens marked. Rows that cannot be used are
// left out and named (W0110), unless they are the half; `strict`: the first ends it. One process.
// Returns the exit code of the script, which prints its own errors (E0330..E0339 bad rows or
// tokenizer, E0232 missing package). Throws E0206 when the recipe names no data, and what
// launch/job/python_step.h does.
int run_prepare(const Recipe& recipe, int show, bool strict = false);

}  // namespace sutor
