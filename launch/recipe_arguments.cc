#include "launch/recipe_arguments.h"

#include <fmt/format.h>

#include <cstdio>

#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "recipes/recipe_reader.h"

namespace po = boost::program_options;

namespace sutor {

void add_recipe_options(po::options_description& options,
                        po::positional_options_description& positional) {
  options.add_options()("recipe", po::value<std::string>(), "the recipe (YAML)")(
      "set", po::value<std::vector<std::string>>()->composing(),
      "key=value: sets a recipe key; may be repeated");
  positional.add("recipe", 1);
}

Recipe recipe_from(const po::variables_map& values) {
  if (!values.count("recipe")) fail(202, "no recipe given: name a YAML file");
  std::vector<std::string> sets;
  if (values.count("set")) sets = values["set"].as<std::vector<std::string>>();
  return read_recipe(values["recipe"].as<std::string>(), sets);
}

void add_profile_option(po::options_description& options) {
  options.add_options()("profile", po::bool_switch(), "print at the end where the time went");
}

void with_profile(const po::variables_map& values, const Comm& world,
                  const std::function<void()>& body) {
  const bool profile = values["profile"].as<bool>() && world.rank() == 0;
  if (profile) enable_profile();
  body();
  if (!profile) return;
  fmt::print("{}", profile_table());
  std::fflush(stdout);
}

}  // namespace sutor
