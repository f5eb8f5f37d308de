#include "launch/cli/recipe_arguments.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "csrc/base/text/json.h"
#include "recipes/recipe_reader.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

std::vector<std::string> sets_of(const po::variables_map& values) {
  std::vector<std::string> sets;
  if (values.count("set")) sets = values["set"].as<std::vector<std::string>>();
  if (values.count("device")) sets.push_back("device=" + values["device"].as<std::string>());
  return sets;
}

}  // namespace

void add_recipe_options(po::options_description& options,
                        po::positional_options_description& positional) {
  options.add_options()("recipe", po::value<std::string>(), "the recipe (YAML)")(
      "set", po::value<std::vector<std::string>>()->composing(),
      "key=value: sets a recipe key; may be repeated");
  positional.add("recipe", 1);
}

void add_device_option(po::options_description& options) {
  options.add_options()("device", po::value<std::string>(),
                        "auto (a GPU for each rank where there are, else the CPU), cpu or cuda; "
                        "the recipe's `device`");
}

Recipe recipe_from(const po::variables_map& values) {
  if (!values.count("recipe")) fail(ErrorCode::kBadArgument, "no recipe given: name a YAML file");
  return read_recipe(values["recipe"].as<std::string>(), sets_of(values));
}

void add_model_options(po::options_description& options) {
  options.add_options()("model", po::value<std::string>(), "model directory, instead of a recipe")(
      "dtype", po::value<std::string>()->default_value("fp32"), "with --model: fp32 or bf16");
}

Recipe recipe_or_model_from(const po::variables_map& values) {
  if (values.count("recipe") == values.count("model")) {
    fail(ErrorCode::kBadArgument,
         "name a recipe, or a model directory with --model (one of the two)");
  }
  if (values.count("recipe")) return recipe_from(values);
  // A JSON string is a YAML string, whatever it contains.
  std::vector<std::string> sets = {
      "model.path=" + dump_json(nlohmann::json(values["model"].as<std::string>())),
      "model.dtype=" + values["dtype"].as<std::string>(), "output=."};
  for (const std::string& set : sets_of(values)) sets.push_back(set);
  return recipe_of_sets(sets);
}

std::string checkpoint_option(const po::variables_map& values) {
  const std::string given = values["checkpoint"].as<std::string>();
  const bool is_auto = values["checkpoint"].defaulted() || given == "auto";
  return values.count("model") && is_auto ? "none" : given;
}

std::string option_from(const po::variables_map& values) {
  return values.count("from") ? values["from"].as<std::string>() : "";
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
