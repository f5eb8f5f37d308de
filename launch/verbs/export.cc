// sutor export: what a checkpoint trained, as an adapter and as a merged model directory.
#include "launch/steps/export.h"

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/text/text.h"
#include "launch/cli/command_line.h"
#include "launch/cli/provenance.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/job/failure.h"
#include "launch/log/run_paths.h"
#include "launch/output/output_lock.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "export",
    "Writes what a checkpoint trained: an adapter (trained tensors only) and a merged model "
    "directory that transformers and the servers load.",
    "sutor export RECIPE [--checkpoint best|last|none|DIR] [--format adapter,merged] "
    "[--quantized dequantize|requantize] [--verify]",
    "sutor export my.yaml --verify\n"
    "sutor export my.yaml --checkpoint latest --format merged --out exported/"};

}  // namespace

int verb_export(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  options.add_options()("checkpoint", po::value<std::string>()->default_value("best"),
                        "best, last, none (the base as it is), or a step directory")(
      "format", po::value<std::string>(),
      "adapter, merged, peft, several with commas (default: the recipe's)")(
      "out", po::value<std::string>(), "folder for adapter/ and merged/ (default: OUTPUT/export)")(
      "quantized", po::value<std::string>(),
      "trained matrices that the base has quantised, in the merged model: dequantize (with their "
      "layer's experts) or requantize (default: the recipe's)")(
      "verify", po::bool_switch(), "compare what was written with the base, tensor by tensor")(
      "overwrite", po::bool_switch(), "replace an earlier export");
  return run_alone([&] {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const Recipe recipe = recipe_from(*values);
    ExportRequest request{.formats = recipe.export_.format,
                          .checkpoint = (*values)["checkpoint"].as<std::string>(),
                          .folder = RunPaths(recipe.output).adapter().parent_path()};
    request.quantized =
        parse_quantized_rule(values->count("quantized") ? (*values)["quantized"].as<std::string>()
                                                        : recipe.export_.quantized);
    if (values->count("out")) request.folder = (*values)["out"].as<std::string>();
    request.verify = (*values)["verify"].as<bool>();
    request.overwrite = (*values)["overwrite"].as<bool>();
    if (values->count("format")) {
      request.formats = split_at_commas((*values)["format"].as<std::string>());
    }
    for (const std::string& format : request.formats) {
      if (format != "adapter" && format != "merged" && format != "peft") {
        fail(ErrorCode::kBadArgument, "unknown export format `{}`: adapter, merged, peft", format);
      }
    }
    std::optional<OutputLock> output;
    std::optional<FolderLock> elsewhere;
    if (lies_within(request.folder, recipe.output)) {
      output.emplace(recipe.output);
    } else {
      elsewhere.emplace(request.folder);
    }
    run_export(recipe, ModelSource(recipe.model), request, provenance("export", arguments));
    return kExitOk;
  });
}

}  // namespace sutor
