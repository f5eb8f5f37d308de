// The recipe form of `sutor plan`.
#pragma once

#include <boost/program_options.hpp>

namespace sutor {

void add_plan_recipe_options(boost::program_options::options_description& options);

// Prints the plan; returns kExitOk, or kExitCheckFailed when it does not fit.
int plan_recipe(const boost::program_options::variables_map& values);

}  // namespace sutor
