#include "launch/steps/export.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/merged_export.h"
#include "checkpoint/huggingface/base_config.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"
#include "launch/convert/rounding_report.h"
#include "launch/log/run_paths.h"
#include "launch/model/overlay.h"

namespace sutor {
namespace {

// The pairs of a low-rank training, for peft.
void write_peft(const Overlay& checkpoint, const Recipe& recipe, const ExportRequest& request) {
  const std::filesystem::path folder = request.folder / "peft";
  if (checkpoint.pairs().empty()) {
    fail(ErrorCode::kNoPeftForm,
         "{} trained no low-rank pairs: format peft is for train.method lora", checkpoint.name());
  }
  for (const TrainedTensor& pair : checkpoint.pairs()) {
    if (pair.name.find(".experts.") == std::string::npos) continue;
    fail(ErrorCode::kNoPeftForm,
         "format peft: `{}` belongs to a routed expert, which transformers keeps fused with the "
         "others, so peft has no module for it. Export adapter or merged.",
         pair.name);
  }
  if (request.overwrite) std::filesystem::remove_all(folder);
  PeftOptions options = checkpoint.lora();
  options.base = recipe.model.path;
  write_peft_adapter(folder, checkpoint.pairs(), options);
  fmt::print("wrote {}: {} tensors\n", folder.string(), checkpoint.pairs().size());
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
    const MergedExport merged = export_merged(work.base, work.model.tensors, work.trained, folder,
                                              work.origin, request.quantized);
    fmt::print("wrote {}: {} tensors changed\n", folder.string(), merged.digests.size());
    print_rounding(merged.rounding);
    if (!request.verify) return;
    const VerifyReport report =
        verify_merged(work.base, work.model.tensors, folder, merged.digests, request.quantized);
    fmt::print(
        "verified: {} trained tensors as trained, {} others byte-identical to the base, {}{} other "
        "files\n",
        report.changed, report.identical,
        report.dequantized > 0
            ? fmt::format("{} stacks or matrices dequantised, ", report.dequantized)
            : "",
        report.other_files);
  }
}

// A trained tensor whose rounded weight equals the base's is no failure of the export when nothing
// moved it (an expert that never got a token); it is left out of what has to differ.
std::vector<TrainedTensor> moved_only(std::vector<TrainedTensor> tensors,
                                      const ModelDirectory& base, const ModelInfo& model) {
  std::vector<char> equal(tensors.size());
  parallel_tasks(0, static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    equal[i] = equals_base(tensors[i], base, *model.tensors.find(tensors[i].name));
  });
  std::vector<TrainedTensor> moved;
  for (size_t i = 0; i < tensors.size(); ++i) {
    TrainedTensor& tensor = tensors[i];
    if (equal[i]) {
      fmt::print(stderr,
                 "warning[{}]: {} is trained but equal to the base (no token reached it, or "
                 "its change is below its dtype's resolution)\n",
                 WarningCode::kExportedEqualsBase, tensor.name);
    } else {
      moved.push_back(std::move(tensor));
    }
  }
  return moved;
}

}  // namespace

void run_export(const Recipe& recipe, const ModelSource& source, const ExportRequest& request,
                const nlohmann::json& provenance) {
  const RunPaths paths(recipe.output);
  // The exports stand beside the directory itself, so adapters under it count as trained.
  source.digest();  // checks the adapters
  Work work{source.directory,
            source.info,
            {},
            {},
            {source.directory.digest().text(), provenance,
             computing_config(source.directory.config())}};
  std::vector<const Overlay*> layers;
  for (const Overlay& adapter : source.adapters) layers.push_back(&adapter);
  std::optional<Overlay> checkpoint;
  if (request.checkpoint != "none") {
    const std::filesystem::path path = find_checkpoint(paths.checkpoints(), request.checkpoint);
    checkpoint.emplace(source.checkpoint(path, source.digest()));
    fmt::print("checkpoint {}\n", path.string());
    warn_of_base_config(*checkpoint);
    layers.push_back(&*checkpoint);
  }
  work.config = merged_config(layers);
  work.trained = merged_tensors(layers);
  store_as_base(work.trained, work.base, work.model.tensors);
  work.trained = moved_only(std::move(work.trained), work.base, work.model);
  for (const std::string& format : request.formats) {
    if (format == "adapter" && work.trained.empty()) continue;  // an adapter of nothing
    if (format != "peft") {
      write_one(format, work, request);
    } else if (checkpoint) {
      write_peft(*checkpoint, recipe, request);
    }
  }
}

}  // namespace sutor
