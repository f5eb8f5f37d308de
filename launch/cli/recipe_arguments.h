// The options that all verbs with a recipe have: RECIPE, --set, --profile.
#pragma once

#include <boost/program_options.hpp>

#include <functional>
#include <string>

#include "csrc/comm/comm.h"
#include "recipes/recipe.h"

namespace sutor {

// Adds --recipe (also positional) and --set to a verb's options.
void add_recipe_options(boost::program_options::options_description& options,
                        boost::program_options::positional_options_description& positional);

// For verbs that compute: adds --device.
void add_device_option(boost::program_options::options_description& options);

// Reads the recipe; throws E0202 when none was given.
Recipe recipe_from(const boost::program_options::variables_map& values);

// For verbs that need no more than a model: adds --model and --dtype.
void add_model_options(boost::program_options::options_description& options);
// The recipe, or the default recipe with --model; --set applies to both. Throws E0202 unless
// exactly one of the two is given.
Recipe recipe_or_model_from(const boost::program_options::variables_map& values);

// The value of --checkpoint; a model directory has none of its own unless one is named.
std::string checkpoint_option(const boost::program_options::variables_map& values);
// The value of --from; empty when it was not given.
std::string option_from(const boost::program_options::variables_map& values);

// Adds --profile to a verb's options.
void add_profile_option(boost::program_options::options_description& options);

// Runs `body`; with --profile, rank 0 then prints where its time went.
void with_profile(const boost::program_options::variables_map& values, const Comm& world,
                  const std::function<void()>& body);

}  // namespace sutor
