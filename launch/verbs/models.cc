// sutor models: the families and published models that are supported, and what proves it.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "csrc/base/error_codes.h"
#include "csrc/base/text/json.h"
#include "launch/cli/command_line.h"
#include "launch/job/failure.h"
#include "launch/start/known_models.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "models",
    "Lists the model families, the sizes of published models, what can be done with them, and for "
    "one family which tests compare it with transformers.",
    "sutor models [FAMILY|MODEL] [--json]", "sutor models\nsutor models qwen3_moe"};

}  // namespace

int verb_models(const Arguments& arguments) {
  return run_alone([&]() -> int {
    po::options_description options;
    po::positional_options_description positional;
    auto add = options.add_options();
    add("family", po::value<std::string>()->default_value(""),
        "a family, or a published model of one (also without --family)");
    add("json", po::bool_switch(), "print JSON and nothing else");
    positional.add("family", 1);
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const auto name = (*values)["family"].as<std::string>();
    if ((*values)["json"].as<bool>()) {
      fmt::print("{}\n", dump_json(models_json(name), 1));
    } else {
      fmt::print("{}", name.empty() ? models_text() : models_text(name));
    }
    return kExitOk;
  });
}

}  // namespace sutor
