#include "launch/recipe_arguments.h"

#include "csrc/base/error.h"
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

}  // namespace sutor
