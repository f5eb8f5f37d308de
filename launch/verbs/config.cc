// sutor config: every value of a recipe with its origin; the reference of all keys.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "csrc/base/error.h"
#include "csrc/base/text/json.h"
#include "launch/cli/command_line.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/failure.h"
#include "launch/start/config_view.h"
#include "recipes/key_meanings.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "config",
    "Prints every value of a recipe with its origin (default, file:line:column, --set), and what "
    "the model's config.json decides in the run, auxiliary losses among it. Needs no weights and "
    "no ranks. The output is a recipe that reads back to the same one. --reference: all keys with "
    "type, default, unit and meaning.",
    "sutor config RECIPE [--set key=value]... [--json] | sutor config --reference [--json]",
    "sutor config my.yaml --set optim.lr=2e-5\n"
    "sutor config --reference"};

nlohmann::ordered_json reference_json() {
  nlohmann::ordered_json keys = nlohmann::ordered_json::array();
  for (const KeyReference& entry : key_reference()) {
    keys.push_back({{"key", entry.key},
                    {"type", entry.type},
                    {"default", entry.value},
                    {"unit", entry.unit},
                    {"meaning", entry.meaning}});
  }
  return keys;
}

void print_reference() {
  for (const KeyReference& entry : key_reference()) {
    fmt::print("{}: {}\n    {}. {}{}{}\n", entry.key, entry.value, entry.type, entry.unit,
               entry.unit.empty() ? "" : " ", entry.meaning);
  }
}

}  // namespace

int verb_config(const Arguments& arguments) {
  return run_alone([&]() -> int {
    po::options_description options;
    po::positional_options_description positional;
    add_recipe_options(options, positional);
    auto add = options.add_options();
    add("reference", po::bool_switch(), "all keys of recipes, without one");
    add("json", po::bool_switch(), "print JSON and nothing else");
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const bool json = (*values)["json"].as<bool>();
    if ((*values)["reference"].as<bool>()) {
      if (values->count("recipe") || values->count("set")) {
        fail(ErrorCode::kBadArgument, "sutor config: --reference is about all recipes: name none.");
      }
      if (json) {
        fmt::print("{}\n", dump_json(reference_json(), 1));
      } else {
        print_reference();
      }
      return kExitOk;
    }
    const Recipe recipe = recipe_from(*values);
    if (json) {
      fmt::print("{}\n", dump_json(config_json(recipe), 1));
    } else {
      fmt::print("{}", config_text(recipe));
    }
    return kExitOk;
  });
}

}  // namespace sutor
