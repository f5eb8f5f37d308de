// sutor report: one HTML page of a run that opens offline, and its receipt.
#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/job/failure.h"
#include "launch/output/output_lock.h"
#include "launch/report/receipt.h"
#include "launch/report/report_page.h"
#include "recipes/recipe_reader.h"

namespace po = boost::program_options;
namespace fs = std::filesystem;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "report",
    "Draws a run as one HTML page that opens without a network: what ran, curves, experts, "
    "evaluations,\nchecks, plan beside measurement. `run` and `train` leave one at their end; this "
    "draws it again, also\nwhile a training runs or after it was interrupted.",
    "sutor report OUTPUT_FOLDER | RECIPE [--set key=value]... [--out FILE.html] [--samples N]\n"
    "[--receipt]",
    "sutor report runs/my\n"
    "sutor report my.yaml --out /tmp/my.html"};

// The folder itself, or the `output` of a recipe.
fs::path folder_of(const po::variables_map& values) {
  const fs::path given = existing_path(values["run"].as<std::string>());
  const bool sets = values.count("set") > 0;
  if (is_folder(given)) {
    if (sets) fail(ErrorCode::kBadArgument, "--set is for recipes; {} is a folder", given.string());
    return given;
  }
  const Recipe recipe = read_recipe(
      given, sets ? values["set"].as<std::vector<std::string>>() : std::vector<std::string>());
  if (!is_folder(recipe.output)) {
    fail(ErrorCode::kNoCheckpoint, "{}: its output {} does not exist: nothing was run yet",
         given.string(), recipe.output);
  }
  return recipe.output;
}

int report(const Arguments& arguments) {
  po::options_description options(100);
  auto add = options.add_options();
  add("run", po::value<std::string>()->required(), "the output folder of a run, or its recipe");
  add("set", po::value<std::vector<std::string>>()->composing(),
      "key=value: sets a recipe key; may be repeated");
  add("out", po::value<std::string>(), "the page; default: report.html in the folder");
  add("samples", po::value<int>()->default_value(3),
      "completions of base and trained model to show of each set that `sutor eval` generated for");
  add("receipt", po::bool_switch(),
      "also write receipt.json anew, of what the folder holds now; no job may be writing there");
  po::positional_options_description positional;
  positional.add("run", 1);
  const auto values = parse_command_line(kHelp, options, positional, arguments);
  if (!values) return kExitOk;
  const RunPaths paths(folder_of(*values));
  fs::path out = paths.output / kReportFile;
  if (values->count("out")) out = (*values)["out"].as<std::string>();
  require_plain_file(out);
  const int samples = (*values)["samples"].as<int>();
  if (samples < 0) fail(ErrorCode::kBadArgument, "--samples is {}; it is a number from 0", samples);
  require_run(paths);
  const nlohmann::ordered_json receipt = make_receipt(paths);
  if ((*values)["receipt"].as<bool>()) {
    const OutputLock lock(paths.output);
    write_receipt(paths, receipt);
    fmt::print("-> {}\n", (paths.output / kReceiptFile).string());
  }
  draw_report(paths, out, receipt, samples);
  fmt::print("-> {}\n", out.string());
  return kExitOk;
}

}  // namespace

int verb_report(const Arguments& arguments) {
  return run_alone([&] { return report(arguments); });
}

}  // namespace sutor
