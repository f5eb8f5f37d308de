// What items of data.train and data.eval mean together: how much of each training set an epoch
// holds, and which rows of them are an evaluation set.
#pragma once

#include <string>
#include <vector>

#include "recipes/recipe.h"

namespace sutor {

// Whether an epoch holds anything but every document of data.train once.
bool is_mixed(const std::vector<DataSource>& train);

// "law weight 2, chat weight 1", "law once, chat epochs 3".
std::string mix_text(const std::vector<DataSource>& train);

// Throws E0205 for a set with weight and epochs, or the only one with a weight among epochs. Gives
// the weight 1 to sets with neither, where there are weights.
void check_mix(Recipe& recipe);

// An item of data.eval with a share becomes an evaluation set of each training set. The names are
// given. Throws E0205 when it does not fit.
void hold_out_rows(Recipe& recipe);

// The name of all rows held out of several training sets taken together, "held-out"; empty where
// they are of one set, or none are.
std::string held_out_together(const Recipe& recipe);

// The items of which hold_out_rows() made these sets.
std::vector<DataSource> as_written(const std::vector<DataSource>& sets);

}  // namespace sutor
