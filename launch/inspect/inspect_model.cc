#include "launch/inspect/inspect_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/peft_adapter.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/huggingface/tensor_fit.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/model/model_config.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

using Row = std::vector<nlohmann::ordered_json>;

bool has_weights(const fs::path& directory) {
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == ".safetensors") return true;
  }
  return false;
}

// The width of the first MLP of that role; 0 when there is none.
int64_t mlp_width(const ModelInfo& model, TensorRole role) {
  for (const TensorEntry& tensor : model.tensors.entries()) {
    const bool is_column_split = tensor.split.axis == TensorSplit::Axis::kColumns;
    if (tensor.role == role && is_column_split) return tensor.shape[1];
  }
  return 0;
}

// The parameters that process a token: all but the experts that are not chosen.
int64_t active_parameters(const ModelInfo& model) {
  int64_t routed = 0, others = 0;
  for (const TensorEntry& tensor : model.tensors.entries()) {
    (tensor.expert >= 0 ? routed : others) += num_elements(tensor.shape);
  }
  return others + (model.num_experts > 0 ? routed / model.num_experts * model.top_k : 0);
}

void add_architecture(InspectReport& report, const ModelInfo& model) {
  const auto moe = std::count(model.moe_layer.begin(), model.moe_layer.end(), true);
  report.add("family", model.family);
  report.add("layers", model.num_layers,
             fmt::format("{} ({} with experts)", model.num_layers, moe));
  report.add("moe layers", moe, "");
  report.add("experts a layer", model.num_experts);
  report.add("experts a token", model.top_k);
  report.add("expert width", model.expert_width);
  for (const auto& [label, role] : {std::pair("shared expert width", TensorRole::kSharedExpert),
                                    std::pair("dense width", TensorRole::kDenseMlp)}) {
    if (const int64_t width = mlp_width(model, role)) report.add(label, width);
  }
  report.add("hidden size", model.hidden_size);
  report.add("vocabulary", model.vocab_size);
  report.add("tied head", model.tied_head);
}

void add_parameters(InspectReport& report, const ModelInfo& model) {
  struct ParameterCount {
    int64_t tensors = 0, parameters = 0;
  };
  std::map<TensorRole, ParameterCount> by_role;
  ParameterCount total;
  for (const TensorEntry& tensor : model.tensors.entries()) {
    const int64_t parameters = num_elements(tensor.shape);
    for (ParameterCount* count : {&by_role[tensor.role], &total}) {
      ++count->tensors;
      count->parameters += parameters;
    }
  }
  report.add("parameters", total.parameters);
  report.add("active parameters", active_parameters(model));
  std::vector<Row> rows;
  for (const auto& [role, count] : by_role) {
    rows.push_back({std::string(name_of(role)), count.tensors, count.parameters,
                    percent_text(static_cast<double>(count.parameters) /
                                 static_cast<double>(std::max<int64_t>(1, total.parameters)))});
  }
  report.add_table("parameters by role", {"role", "tensors", "parameters", "share"}, rows);
}

// Stored elements by dtype, largest first: "BF16", or "BF16 98.10%, F32 1.90%".
std::string dtype_text(const std::map<std::string, int64_t>& elements) {
  int64_t total = 0;
  std::vector<std::pair<int64_t, std::string>> sorted;
  for (const auto& [dtype, count] : elements) {
    total += count;
    sorted.emplace_back(-count, dtype);
  }
  std::sort(sorted.begin(), sorted.end());
  if (sorted.size() == 1) return sorted[0].second;
  std::string text;
  for (const auto& [count, dtype] : sorted) {
    const double share =
        static_cast<double>(-count) / static_cast<double>(std::max<int64_t>(1, total));
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", dtype, percent_text(share));
  }
  return text;
}

void add_files(InspectReport& report, const ModelDirectory& directory) {
  std::map<std::string, int64_t> dtypes;
  const int64_t bytes = directory.total_bytes();
  std::vector<Row> rows;
  for (const auto& shard : directory.shards()) {
    for (const SafetensorsEntry& tensor : shard->tensors()) {
      dtypes[tensor.dtype_name] += tensor.num_elements();
    }
    rows.push_back({shard->name(), static_cast<int64_t>(shard->tensors().size()), shard->size()});
  }
  report.add("dtype", dtypes, dtype_text(dtypes));
  report.add("stored tensors", static_cast<int64_t>(directory.num_tensors()));
  report.add("bytes", bytes, bytes_text(bytes));
  report.add("shards", static_cast<int64_t>(rows.size()));
  report.add("quick digest", directory.quick_digest().text());
  report.add_table("files", {"file", "tensors", "bytes"}, rows);
}

void add_fit(InspectReport& report, const ModelDirectory& directory, const ModelInfo& model) {
  const auto unexpected = directory.unexpected(model.tensors);
  report.add(
      "unexpected tensors", unexpected,
      unexpected.empty() ? "none" : fmt::format("{}, e.g. {}", unexpected.size(), unexpected[0]));
  try {
    directory.check(model.tensors);
    check_unused_tensors(directory, model.tensors);
    report.add("weights", "complete");
  } catch (const Error& error) {
    report.add("weights", error.what());
  }
}

// Adds what config.json says; returns nothing for a family that sutor does not know.
std::optional<ModelInfo> add_config(InspectReport& report, const fs::path& directory) {
  std::optional<ModelInfo> model;
  try {
    model = read_model_info(directory);
    add_architecture(report, *model);
  } catch (const Error& error) {
    // The files of a model that sutor cannot train can still be listed.
    if (!is_unsupported_model(error.code())) throw;
    report.add("family", error.what(), fmt::format("not supported: {}", error.what()));
  }
  if (model) add_parameters(report, *model);
  return model;
}

// What the config.json that a trainer put beside an adapter says of it.
void add_model_of_adapter(InspectReport& report, const Adapter& adapter) {
  const fs::path config = adapter.path() / "config.json";
  if (!is_there(config)) return;
  try {
    const ModelInfo model = read_model_info(adapter.path());
    report.add("family", model.family);
    adapter.check_tensors(model.tensors, config.string());
    report.add("tensors fit", true, "config.json beside it");
  } catch (const Error& error) {
    report.add("tensors fit", error.what());
  }
}

}  // namespace

InspectReport inspect_model(const fs::path& directory) {
  InspectReport report("model directory", directory.string());
  const std::optional<ModelInfo> model = add_config(report, directory);
  if (!has_weights(directory)) {
    report.add("weights", "none in this directory");
    return report;
  }
  const std::unique_ptr<ModelDirectory> files = open_model(directory);
  add_files(report, *files);
  if (model) add_fit(report, *files, *model);
  return report;
}

InspectReport inspect_config(const fs::path& file) {
  InspectReport report("model config", file.string());
  add_config(report, file);
  return report;
}

void add_base_store(InspectReport& report, const BaseStore& store) {
  const StoreManifest& manifest = store.manifest();
  const std::optional<ModelInfo> model = add_config(report, store.path());
  add_files(report, store);
  report.add("digest", manifest.weights.text());
  report.add("bytes on disk", manifest.total_bytes(), bytes_text(manifest.total_bytes()));
  report.add("data files at most", manifest.max_file_bytes, bytes_text(manifest.max_file_bytes));
  report.add("made by", manifest.provenance);
  std::vector<Row> rows;
  for (size_t i = 0; i < manifest.data_files.size(); ++i) {
    const StoreDataFile& file = manifest.data_files[i];
    rows.push_back({store_data_file(i), file.bytes, file.index_bytes});
  }
  report.add_table("data files", {"file", "bytes", "index bytes"}, rows);
  rows.clear();
  for (const StoreOtherFile& file : manifest.other_files) rows.push_back({file.path, file.bytes});
  report.add_table("other files", {"file", "bytes"}, rows);
  if (model) add_fit(report, store, *model);
}

InspectReport inspect_adapter(const fs::path& directory) {
  const Adapter adapter(directory);
  InspectReport report("adapter", directory.string());
  report.add("base", adapter.base_digest() ? nlohmann::ordered_json(adapter.base_digest()->text())
                                           : nlohmann::ordered_json("not recorded"));
  report.add("layers with experts", static_cast<int64_t>(adapter.config().experts.size()));
  report.add("experts", adapter.config().num_experts());
  report.add("shared experts", adapter.config().shared_experts);
  report.add("non expert modules", adapter.config().non_expert_modules);
  std::map<std::string, int64_t> dtypes;
  std::map<std::string, std::pair<int64_t, int64_t>> files;  // tensors, bytes
  int64_t parameters = 0;
  for (const auto& [name, stored] : adapter.tensors()) {
    dtypes[stored.entry->dtype_name] += stored.entry->num_elements();
    parameters += stored.entry->num_elements();
    auto& file = files[stored.file->name()];
    ++file.first;
    file.second = stored.file->size();
  }
  report.add("tensors", static_cast<int64_t>(adapter.tensors().size()));
  report.add("parameters", parameters);
  add_model_of_adapter(report, adapter);
  report.add("dtype", dtypes, dtype_text(dtypes));
  std::vector<Row> rows;
  for (const auto& [name, file] : files) rows.push_back({name, file.first, file.second});
  report.add_table("files", {"file", "tensors", "bytes"}, rows);
  rows.clear();
  for (const fs::path& file : files_beside(directory)) {
    rows.push_back({file.filename().string(), is_file(file) ? bytes_of(file) : 0});
  }
  if (!rows.empty()) report.add_table("no part of the adapter", {"file", "bytes"}, rows);
  return report;
}

InspectReport inspect_peft_adapter(const fs::path& directory) {
  const PeftAdapter adapter(directory);
  InspectReport report("peft adapter", directory.string());
  report.add("rank", adapter.rank());
  report.add("alpha", adapter.alpha());
  report.add("tensors", static_cast<int64_t>(adapter.num_tensors()));
  const int64_t bytes = bytes_of(directory / kPeftWeightsFile);
  report.add("bytes", bytes, bytes_text(bytes));
  return report;
}

std::string trainer_text(const fs::path& path) {
  if (!is_folder(path)) return "";
  const std::vector<std::string> names = trainer_checkpoints(path);
  if (names.empty()) return "";
  return fmt::format(", but a trainer of transformers saved {} there: give one of them",
                     fmt::join(names, ", "));
}

}  // namespace sutor
