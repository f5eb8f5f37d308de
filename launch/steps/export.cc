#include "launch/steps/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/merged_export.h"
#include "checkpoint/huggingface/base_config.h"
#include "checkpoint/huggingface/end_tokens.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/owner/staged_directory.h"
#include "csrc/base/parallel.h"
#include "csrc/base/process/progress.h"
#include "launch/checkpoints/choose_checkpoint.h"
#include "launch/convert/rounding_report.h"
#include "launch/data/token_stores.h"
#include "launch/log/run_paths.h"
#include "launch/model/overlay.h"
#include "launch/steps/step_ledger.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

// Before anything is read or written: what `--overwrite` may replace.
void check_folders(const ExportRequest& request) {
  for (const std::string& format : request.formats) {
    const fs::path folder = request.folder / format;
    if (!is_name_taken(folder)) continue;
    if (!request.overwrite) {
      fail(ErrorCode::kOutputExists,
           "{} exists already. Remove it, name another --out, or add --overwrite.",
           folder.string());
    }
    require_own_directory(folder);
    const char* mark = format == "adapter" ? kExpertConfigFile
                       : format == "peft"  ? kPeftConfigFile
                                           : "config.json";
    std::error_code error;
    const bool empty = fs::directory_iterator(folder, error) == fs::directory_iterator();
    if (empty || fs::exists(folder / mark, error)) continue;
    fail(ErrorCode::kOutputExists,
         "{} is no earlier export of this format (it has no {}), so it is not replaced",
         folder.string(), mark);
  }
}

void check_peft(const Overlay& checkpoint) {
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
}

struct Work {
  const ModelDirectory& base;
  const ModelInfo& model;
  std::vector<TrainedTensor> trained;
  ExpertConfig config;
  ExportOrigin origin;
};

// Each of these writes one format into a staging directory, checks it there if that was asked for,
// and returns what is to be printed when it is published.
using Report = std::function<void(const std::string& folder)>;

Report write_peft(const Overlay& checkpoint, const Recipe& recipe, const fs::path& staging) {
  PeftOptions options = checkpoint.lora();
  options.base = recipe.model.path;
  write_peft_adapter(staging, checkpoint.pairs(), options);
  return [count = checkpoint.pairs().size()](const std::string& folder) {
    fmt::print("wrote {}: {} tensors\n", folder, count);
  };
}

Report write_esft(const Work& work, const ExportRequest& request, const fs::path& staging) {
  const auto digests = stored_digests(work.trained);
  write_adapter(staging, work.trained, work.config, work.origin);
  std::optional<VerifyReport> report;
  if (request.verify) {
    report = verify_adapter(work.base, work.model.tensors, Adapter(staging), digests);
  }
  return [count = work.trained.size(), report](const std::string& folder) {
    fmt::print("wrote {}: {} tensors\n", folder, count);
    if (!report) return;
    fmt::print("verified: {} trained tensors differ from the base and are as trained\n",
               report->changed);
  };
}

void print_verified(const VerifyReport& report) {
  fmt::print(
      "verified: {} trained tensors as trained, {} others byte-identical to the base, {}{} other "
      "files\n",
      report.changed, report.identical,
      report.dequantized > 0
          ? fmt::format("{} stacks or matrices dequantised, ", report.dequantized)
          : "",
      report.other_files);
}

Report write_merged(const Work& work, const ExportRequest& request, const fs::path& staging) {
  const int64_t bytes = work.base.total_bytes();
  const MergedExport merged = [&] {
    const Progress progress = Progress::of_reading("writing the merged model", bytes);
    return export_merged(work.base, work.model.tensors, work.trained, staging, work.origin,
                         request.quantized);
  }();
  std::optional<VerifyReport> report;
  if (request.verify) {
    const Progress progress =
        Progress::of_reading("comparing the merged model with its base", 2 * bytes);
    report =
        verify_merged(work.base, work.model.tensors, staging, merged.digests, request.quantized);
  }
  return [merged, report](const std::string& folder) {
    fmt::print("wrote {}: {} tensors changed\n", folder, merged.digests.size());
    print_rounding(merged.rounding);
    print_left_out(merged);
    if (report) print_verified(*report);
  };
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
  size_t unmoved = 0;
  std::string first;
  for (size_t i = 0; i < tensors.size(); ++i) {
    TrainedTensor& tensor = tensors[i];
    if (!equal[i]) {
      moved.push_back(std::move(tensor));
    } else if (++unmoved == 1) {
      first = tensor.name;
    }
  }
  if (unmoved > 0) {
    fmt::print(stderr,
               "warning[{}]: {} of {} trained tensors are equal to the base, the first of them {}: "
               "no token reached them, or their change is below their dtype's resolution\n",
               WarningCode::kExportedEqualsBase, unmoved, tensors.size(), first);
  }
  return moved;
}

// Whether training moved any tensor of the checkpoint from where it began, in the dtype in which
// the base stores it. It began from the base under the adapters, rounded to the computing dtype;
// low-rank pairs are added to what is not rounded.
bool anything_moved(const Overlay& checkpoint, const ModelSource& source, DType computing) {
  std::vector<TrainedTensor> trained = checkpoint.tensors();
  store_as_base(trained, source.directory, source.info.tensors);
  return std::any_of(trained.begin(), trained.end(), [&](const TrainedTensor& after) {
    TrainedTensor before = after;
    if (checkpoint.pairs().empty()) before.dtype = computing;
    before.read = [&source](const ShardedTensor& slice) {
      ShardedTensor destination = slice;
      source.load(destination);
    };
    return stored_digests({after}) != stored_digests({before});
  });
}

// Of an adapter, which would be one of nothing, an error; of a merged model, which would be the
// base, a warning.
void check_learned(const Overlay& checkpoint, const ModelSource& source, const Recipe& recipe,
                   const std::vector<std::string>& formats) {
  if (anything_moved(checkpoint, source, parse_dtype(recipe.model.dtype))) return;
  const std::string found = fmt::format(
      "{}: nothing was learned: none of its {} trained tensors differs from what training began "
      "from, in the dtype of the base. Likely reasons: optim.lr {} is too small (a change below "
      "the dtype's resolution is rounded away), too few steps, or no token reached what trains",
      checkpoint.name(), checkpoint.tensors().size(), recipe.optim.lr);
  for (const std::string& format : formats) {
    if (format == "merged") continue;
    fail(ErrorCode::kNothingLearned,
         "{}. There is nothing to export as {}. `--checkpoint none --format merged` exports the "
         "base.",
         found, format);
  }
  fmt::print(stderr, "warning[{}]: {}\n", WarningCode::kExportedEqualsBase, found);
}

// The tokens that end what the rows train, as `prepare` noted them.
std::set<int64_t> trained_end_tokens(const Recipe& recipe) {
  std::set<int64_t> ids;
  for (const DataSource& source : recipe.data.train) {
    try {
      const TokenStore store(token_store_path(recipe, source));
      ids.merge(end_tokens_of(store.info().options, "end_tokens"));
    } catch (const Error& error) {
      fmt::print("note: which token ends the rows of {} is not known: {}\n", data_set_name(source),
                 error.what());
    }
  }
  return ids;
}

}  // namespace

void require_exports(const Recipe& recipe) {
  const auto& formats = recipe.export_.format;
  if (std::find(formats.begin(), formats.end(), "peft") == formats.end()) return;
  const std::string place = place_of(recipe, "export.format");
  if (recipe.train.method != "lora") {
    fail(ErrorCode::kNoPeftForm,
         "{}: export.format peft is for low-rank pairs, which train.method {} does not train. Take "
         "adapter or merged, or train.method lora.",
         place, recipe.train.method);
  }
  const auto& targets = recipe.lora.targets;
  if (std::find(targets.begin(), targets.end(), "experts") == targets.end()) return;
  fail(ErrorCode::kNoPeftForm,
       "{}: export.format peft has no form for the pairs of lora.targets experts: transformers "
       "keeps routed experts fused, so peft has no module for one. Take adapter or merged, or "
       "leave `experts` out of lora.targets.",
       place);
}

void run_export(const Recipe& recipe, const ModelSource& source, const ExportRequest& request,
                const nlohmann::json& provenance) {
  const RunPaths paths(recipe.output);
  check_folders(request);
  // The exports stand beside the directory itself, so adapters under it count as trained.
  source.digest();  // checks the adapters
  Work work{
      source.directory,
      source.info,
      {},
      {},
      {source.directory.digest().text(), provenance, computing_config(source.directory.config())}};
  std::vector<const Overlay*> layers;
  for (const Overlay& adapter : source.adapters) layers.push_back(&adapter);
  std::optional<Overlay> checkpoint;
  if (request.checkpoint == "none") {
    fmt::print("{}\n",
               checkpoint_line(choose_checkpoint(paths.checkpoints(), "none"), recipe.model.path));
  } else {
    const ChosenCheckpoint chosen = choose_checkpoint(paths.checkpoints(), request.checkpoint);
    fmt::print("{}\n", checkpoint_line(chosen, recipe.model.path));
    const std::filesystem::path& path = chosen.path;
    checkpoint.emplace(source.checkpoint(path, source.digest()));
    warn_of_base_config(*checkpoint);
    check_learned(*checkpoint, source, recipe, request.formats);
    layers.push_back(&*checkpoint);
    work.origin.end_tokens = trained_end_tokens(recipe);
    const auto& formats = request.formats;
    if (std::find(formats.begin(), formats.end(), "peft") != formats.end()) check_peft(*checkpoint);
  }
  for (const Overlay* layer : layers) work.origin.end_tokens.merge(layer->end_tokens());
  work.config = merged_config(layers);
  work.trained = merged_tensors(layers);
  store_as_base(work.trained, work.base, work.model.tensors);
  work.trained = moved_only(std::move(work.trained), work.base, work.model);
  // All formats are whole before the first of an earlier export is replaced.
  std::vector<std::pair<std::unique_ptr<StagedDirectory>, Report>> staged;
  for (const std::string& format : request.formats) {
    if (format == "adapter" && work.trained.empty()) continue;  // an adapter of nothing
    if (format == "peft" && !checkpoint) continue;
    auto staging = std::make_unique<StagedDirectory>(request.folder / format, request.overwrite);
    Report report = format == "peft"      ? write_peft(*checkpoint, recipe, staging->path())
                    : format == "adapter" ? write_esft(work, request, staging->path())
                                          : write_merged(work, request, staging->path());
    staged.emplace_back(std::move(staging), std::move(report));
  }
  if (request.folder == paths.adapter().parent_path()) {
    // Whatever is there from now on, it is not what `run` once finished.
    StepLedger(paths.step_ledger()).started(RecipeStep::kExport);
  }
  for (const auto& [staging, report] : staged) {
    staging->publish();
    report(staging->final_path().string());
  }
}

}  // namespace sutor
