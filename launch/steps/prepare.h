// Step `prepare` of a recipe: rows -> token stores, by running tools/prepare.py.
#pragma once

#include "recipes/recipe.h"

namespace sutor {

// What `prepare` prints for people beside a summary line for each set.
struct DataLook {
  int show = 0;         // documents of every set, with the trained tokens marked
  bool ids = false;     // their token ids, too
  bool report = false;  // a page about all sets, also written to data_report.html
};

// Makes tokens/<name>.tokens.h5 of every set of data.train and data.eval. Rows that cannot be used
// are left out and named (W0110), unless they are the half; `strict`: the first ends it. One
// process, which starts the script and its data.workers. A job that was stopped goes on when it is
// started again. Returns the exit code of the script, which prints its own errors (E0330..E0339 bad
// rows or tokenizer, E0232 missing package). Throws E0206 when the recipe names no data, and what
// launch/job/python_step.h does.
int run_prepare(const Recipe& recipe, const DataLook& look = {}, bool strict = false);

}  // namespace sutor
