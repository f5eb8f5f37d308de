// sutor export: what a checkpoint trained, as an adapter and as a merged model directory.
#include <fmt/format.h>

#include <map>
#include <set>

#include "checkpoint/adapter.h"
#include "checkpoint/checkpoint_list.h"
#include "checkpoint/checkpoint_paths.h"
#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/merged_export.h"
#include "checkpoint/open_model.h"
#include "csrc/base/error.h"
#include "launch/command_line.h"
#include "launch/failure.h"
#include "launch/metrics_log.h"
#include "launch/provenance.h"
#include "launch/recipe_arguments.h"
#include "launch/run_paths.h"
#include "launch/stages.h"
#include "layers/models/models.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "export",
    "Writes what a checkpoint trained: an adapter (trained tensors only) and a merged model "
    "directory that transformers and the servers load.",
    "sutor export RECIPE [--checkpoint best|latest|none|DIR] [--format adapter,merged] [--verify]",
    "sutor export my.yaml --verify\n"
    "sutor export my.yaml --checkpoint latest --format merged --out exported/"};

std::filesystem::path find_checkpoint(const RunPaths& paths, const std::string& which) {
  if (which != "best" && which != "latest") return which;
  const std::filesystem::path root = paths.checkpoints();
  if (which == "best") {
    if (const auto best = read_pointer(root, kBestPointer)) return best->path;
  }
  const NewestCheckpoint newest = newest_valid_checkpoint(root);
  for (const std::string& reason : newest.passed_over) {
    fmt::print(stderr, "warning[W0341]: checkpoint passed over: {}\n", reason);
  }
  if (!newest.entry)
    fail(349, "{} holds no checkpoint: train first, or name one with --checkpoint", root.string());
  return newest.entry->path;
}

std::vector<TrainedTensor> tensors_of(const CheckpointReader& reader) {
  std::vector<TrainedTensor> tensors;
  for (const IndexedTensor& indexed : reader.tensors()) {
    TrainedTensor tensor{.name = indexed.name, .shape = indexed.shape, .dtype = DType::kF32};
    tensor.read = [&reader, indexed](int64_t begin, int64_t count, std::byte* into) {
      reader.read(TensorKind::kMaster,
                  {indexed.name, DType::kF32, indexed.shape, begin, count, into});
    };
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

struct Work {
  const ModelDirectory& base;
  const ModelInfo& model;
  std::vector<TrainedTensor> trained;
  ExpertConfig config;
  ExportOrigin origin;
};

void write_one(const std::string& format, const Work& work, const ExportRequest& request) {
  const std::filesystem::path folder = request.folder / format;
  if (request.overwrite) std::filesystem::remove_all(folder);
  if (format == "adapter") {
    const auto digests = stored_digests(work.trained);
    write_adapter(folder, work.trained, work.config, work.origin);
    fmt::print("wrote {}: {} tensors\n", folder.string(), work.trained.size());
    if (!request.verify) return;
    const VerifyReport report =
        verify_adapter(work.base, work.model.tensors, Adapter(folder), digests);
    fmt::print("verified: {} trained tensors differ from the base and are as trained\n",
               report.changed);
  } else {
    const auto digests =
        export_merged(work.base, work.model.tensors, work.trained, folder, work.origin);
    fmt::print("wrote {}: {} tensors changed\n", folder.string(), digests.size());
    if (!request.verify) return;
    const VerifyReport report = verify_merged(work.base, work.model.tensors, folder, digests);
    fmt::print(
        "verified: {} trained tensors as trained, {} others byte-identical to the base, {} other "
        "files\n",
        report.changed, report.identical, report.other_files);
  }
}

// A trained tensor whose rounded weight equals the base's is no failure of the export when nothing
// moved it (an expert that never got a token); it is left out of what has to differ.
std::vector<TrainedTensor> moved_only(std::vector<TrainedTensor> tensors,
                                      const ModelDirectory& base, const ModelInfo& model) {
  const std::map<std::string, Digest> digests = stored_digests(tensors);
  std::vector<TrainedTensor> moved;
  for (TrainedTensor& tensor : tensors) {
    const TensorEntry& entry = *model.tensors.find(tensor.name);
    std::vector<std::byte> bytes(static_cast<size_t>(size_of(tensor.stored_dtype)));
    ShardedTensor whole{tensor.name, tensor.stored_dtype, tensor.shape,
                        0,           tensor.shape[0],     nullptr};
    bytes.resize(whole.num_bytes());
    whole.data = bytes.data();
    base.load(entry, whole);
    if (xxh3(bytes) == digests.at(tensor.name)) {
      fmt::print(stderr,
                 "warning[W0102]: {} is trained but equal to the base (no token reached it, or "
                 "its change is below its dtype's resolution)\n",
                 tensor.name);
    } else {
      moved.push_back(std::move(tensor));
    }
  }
  return moved;
}

}  // namespace

void run_export(const Recipe& recipe, const ExportRequest& request,
                const nlohmann::json& provenance) {
  const RunPaths paths(recipe.output);
  const std::unique_ptr<ModelDirectory> opened = open_model(recipe.model.path);
  const ModelDirectory& base = *opened;
  const ModelInfo model = family_of(base.config()).info(base.config());
  base.check(model.tensors);
  const std::string base_text = base.digest().text();
  Work work{base, model, {}, {}, {base_text, provenance}};
  std::optional<CheckpointReader> reader;
  if (request.checkpoint != "none") {
    const std::filesystem::path directory = find_checkpoint(paths, request.checkpoint);
    reader.emplace(directory);
    if (reader->meta().base_digest != base_text) {
      fail(305, "{} was trained on base {}, but {} is {}", directory.string(),
           reader->meta().base_digest, recipe.model.path, base_text);
    }
    fmt::print("checkpoint {} (step {})\n", directory.string(), reader->meta().step);
    work.trained = tensors_of(*reader);
    store_as_base(work.trained, base, model.tensors);
    work.trained = moved_only(std::move(work.trained), base, model);
    for (const auto& [layer, ids] : reader->meta().expert_config.at("experts").items()) {
      work.config.experts[std::stoi(layer)] = ids.get<std::vector<int>>();
    }
    work.config.shared_experts = reader->meta().expert_config.at("shared_experts");
    work.config.non_expert_modules = reader->meta().expert_config.at("non_expert_modules");
  }
  for (const std::string& format : request.formats) {
    if (format == "adapter" && request.checkpoint == "none") continue;  // an adapter of nothing
    write_one(format, work, request);
  }
}

int verb_export(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  options.add_options()("checkpoint", po::value<std::string>()->default_value("best"),
                        "best, latest, none (the base as it is), or a step directory")(
      "format", po::value<std::string>(),
      "adapter, merged, or both with a comma (default: the recipe's)")(
      "out", po::value<std::string>(), "folder for adapter/ and merged/ (default: OUTPUT/export)")(
      "verify", po::bool_switch(), "compare what was written with the base, tensor by tensor")(
      "overwrite", po::bool_switch(), "replace an earlier export");
  return run_alone([&] {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const Recipe recipe = recipe_from(*values);
    ExportRequest request{.formats = recipe.export_.format,
                          .checkpoint = (*values)["checkpoint"].as<std::string>(),
                          .folder = RunPaths(recipe.output).adapter().parent_path()};
    if (values->count("out")) request.folder = (*values)["out"].as<std::string>();
    request.verify = (*values)["verify"].as<bool>();
    request.overwrite = (*values)["overwrite"].as<bool>();
    if (values->count("format")) {
      const std::string text = (*values)["format"].as<std::string>();
      request.formats.clear();
      for (size_t at = 0; at <= text.size();) {
        const size_t comma = std::min(text.find(',', at), text.size());
        request.formats.push_back(text.substr(at, comma - at));
        at = comma + 1;
      }
    }
    for (const std::string& format : request.formats) {
      if (format != "adapter" && format != "merged") {
        fail(202, "unknown export format `{}`: adapter, merged or both", format);
      }
    }
    run_export(recipe, request, provenance("export", arguments));
    return kExitOk;
  });
}

}  // namespace sutor
