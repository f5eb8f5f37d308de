// sutor inspect: prints the contents of a checkpoint, adapter, token store, score file or model
// directory.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "checkpoint/compare/artifact_kind.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hdf5/h5.h"
#include "csrc/base/text/json.h"
#include "launch/cli/command_line.h"
#include "launch/data/token_store.h"
#include "launch/inspect/inspect_model.h"
#include "launch/inspect/inspect_report.h"
#include "launch/inspect/inspect_scores.h"
#include "launch/job/failure.h"
#include "launch/log/metrics_log.h"
#include "layers/esft/score_records.h"
#include "parallel_state/model/expert_config.h"

namespace po = boost::program_options;
namespace fs = std::filesystem;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{"inspect",
                         "Prints the contents of a checkpoint, a folder of checkpoints, an "
                         "adapter, a base or token store, a score file, an expert config, a "
                         "model's config or a model directory.",
                         "sutor inspect PATH [--verify] [--json]",
                         "sutor inspect run/checkpoints/step-00000100 --verify\n"
                         "sutor inspect run/tokens/train.tokens.h5 --json"};

struct Inspected {
  InspectReport report;
  int exit_code = kExitOk;
};

using Row = std::vector<nlohmann::ordered_json>;

void add_validity(Inspected& inspected, const std::string& problem, const std::string& checked) {
  inspected.report.add("valid", problem.empty(),
                       problem.empty() ? fmt::format("yes ({})", checked) : "NO: " + problem);
  if (problem.empty()) return;
  inspected.report.add("problem", problem, "");
  inspected.exit_code = kExitData;
}

void add_manifest(InspectReport& report, const Manifest& manifest) {
  const CheckpointMeta& meta = manifest.meta;
  report.add("step", meta.step);
  report.add("base", meta.base_digest);
  report.add("plan", meta.plan_digest);
  report.add("layout", meta.layout);
  report.add("optimizer", meta.optimizer.text());
  report.add("trained tensors", manifest.tensors);
  report.add("trained parameters", manifest.parameters);
  const int64_t bytes = manifest.total_bytes();
  const double each =
      static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(1, manifest.parameters));
  report.add("bytes", bytes, fmt::format("{}, {:.2f} a parameter", bytes_text(bytes), each));
  report.add("expert config", meta.expert_config, "");
  report.add("provenance", meta.provenance, "");
  std::vector<Row> rows;
  for (const FileRecord& file : manifest.files) {
    rows.push_back({writer_file(file.writer), file.tiles, file.bytes, file.index_bytes});
  }
  report.add_table("files", {"file", "tiles", "bytes", "index bytes"}, rows);
}

// The tensors of a checkpoint by module: the experts of each layer, and others.
void add_tensors(InspectReport& report, const CheckpointReader& reader) {
  std::map<std::string, std::pair<int64_t, int64_t>> groups;  // tensors, parameters
  for (const IndexedTensor& tensor : reader.tensors()) {
    // "model.layers.12.mlp.experts.37.up_proj.weight" -> "model.layers.12.mlp.experts"
    const size_t experts = tensor.name.find(".experts.");
    const size_t module = tensor.name.rfind('.');
    auto& group = groups[experts != std::string::npos
                             ? tensor.name.substr(0, experts + 8)
                             : tensor.name.substr(0, std::min(module, tensor.name.size()))];
    ++group.first;
    group.second += tensor.rows() * tensor.row_elements();
  }
  std::vector<Row> rows;
  for (const auto& [name, group] : groups) rows.push_back({name, group.first, group.second});
  report.add_table("what is trained", {"module", "tensors", "parameters"}, rows);
}

Inspected inspect_checkpoint(const fs::path& directory, bool verify) {
  Inspected inspected{InspectReport("partial checkpoint", directory.string())};
  std::string problem;
  try {
    add_manifest(inspected.report, read_manifest(directory));
    const CheckpointReader reader(directory);
    inspected.report.add("state", reader.meta().state, "");
    add_tensors(inspected.report, reader);
    if (verify) reader.verify();
  } catch (const Error& error) {
    problem = error.what();
  }
  add_validity(
      inspected, problem,
      verify ? "every byte checked" : "sizes, indices and state checked; --verify reads all data");
  return inspected;
}

Inspected inspect_store(const fs::path& path, bool verify) {
  Inspected inspected{InspectReport("base store", path.string())};
  std::string problem;
  try {
    const BaseStore store(path);
    add_base_store(inspected.report, store);
    if (verify) store.verify();
  } catch (const Error& error) {
    problem = error.what();
  }
  add_validity(inspected, problem,
               verify ? "every byte checked"
                      : "sizes, headers and indices checked; --verify reads all data");
  return inspected;
}

Inspected inspect_checkpoints(const fs::path& root) {
  Inspected inspected{InspectReport("checkpoints", root.string())};
  for (const std::string_view pointer : {kLatestPointer, kBestPointer}) {
    std::string label(pointer);
    std::transform(label.begin(), label.end(), label.begin(), ::tolower);
    const auto entry = read_pointer(root, pointer);
    inspected.report.add(label, entry ? entry->path.filename().string() : "none");
  }
  std::vector<Row> rows;
  for (const fs::path& step : steps_below(root)) {
    const std::string name = step.filename().string();
    try {
      const Manifest manifest = read_manifest(step);
      rows.push_back({name, manifest.parameters, manifest.total_bytes(), "complete"});
    } catch (const Error& error) {
      rows.push_back({name, nullptr, nullptr, error.what()});
    }
  }
  inspected.report.add("number", static_cast<int64_t>(rows.size()));
  inspected.report.add_table("steps", {"step", "trained parameters", "bytes", "state"}, rows);
  return inspected;
}

std::string or_none(const std::string& text) { return text.empty() ? "none" : text; }

Inspected inspect_token_store(const fs::path& path) {
  const TokenStore store(path);
  const TokenStoreInfo& info = store.info();
  Inspected inspected{InspectReport("token store", path.string())};
  InspectReport& report = inspected.report;
  int64_t longest = 0;
  for (int64_t d = 0; d < store.num_documents(); ++d) {
    longest = std::max(longest, store.document(d).length);
  }
  const auto tokens = static_cast<double>(std::max<int64_t>(1, store.num_tokens()));
  report.add("documents", store.num_documents());
  report.add("tokens", store.num_tokens());
  report.add("longest document", longest);
  report.add("supervised tokens", store.num_supervised(),
             fmt::format("{} ({})", format_count(store.num_supervised()),
                         percent_text(static_cast<double>(store.num_supervised()) / tokens)));
  report.add("supervised share", static_cast<double>(store.num_supervised()) / tokens, "");
  report.add("largest id", info.max_id);
  report.add("vocabulary", info.vocab_size);
  report.add("bos id", info.bos_id, info.bos_id < 0 ? "none" : std::to_string(info.bos_id));
  report.add("eos id", info.eos_id, info.eos_id < 0 ? "none" : std::to_string(info.eos_id));
  report.add("source", info.source_name,
             fmt::format("{} ({} rows, {})", info.source_name, format_count(info.rows),
                         bytes_text(info.source_bytes)));
  report.add("rows", info.rows, "");
  report.add("source digest", info.source_digest, or_none(info.source_digest));
  report.add("tokenizer", info.tokenizer_digest, or_none(info.tokenizer_digest));
  report.add("template", info.template_digest, or_none(info.template_digest));
  report.add("content digest", store.digest().text());
  report.add("options", info.options);
  report.add("counts", info.counts);
  report.add("made by", info.producer);
  return inspected;
}

Inspected inspect_expert_config(const fs::path& path) {
  const ExpertConfig config = read_expert_config(path);
  Inspected inspected{InspectReport("expert config", path.string())};
  inspected.report.add("layers", static_cast<int64_t>(config.experts.size()));
  inspected.report.add("experts", config.num_experts());
  inspected.report.add("shared experts", config.shared_experts);
  inspected.report.add("non expert modules", config.non_expert_modules);
  std::vector<Row> rows;
  for (const auto& [layer, experts] : config.experts) {
    rows.push_back({std::to_string(layer), static_cast<int64_t>(experts.size()),
                    fmt::format("{}", fmt::join(experts, " "))});
  }
  inspected.report.add_table("by layer", {"layer", "number", "experts"}, rows);
  return inspected;
}

[[noreturn]] void fail_unknown(const fs::path& path, const std::string& found) {
  fail(ErrorCode::kUnknownArtifact,
       "sutor does not know what {} is ({}). Known are: step-* directories and folders of them, "
       "base stores, directories with config.json or expert_cfg.json, adapters of peft, token "
       "stores, scores.h5, records and summaries of scores, expert configs.",
       path.string(), found);
}

Inspected inspect_directory(const fs::path& path, bool verify) {
  switch (artifact_kind(path)) {
    case ArtifactKind::kBaseStore:
      return inspect_store(path, verify);
    case ArtifactKind::kModelDirectory:
      return {inspect_model(path)};
    case ArtifactKind::kCheckpoint:
      return inspect_checkpoint(path, verify);
    case ArtifactKind::kCheckpointFolder:
      return inspect_checkpoints(steps_folder(path));
    case ArtifactKind::kAdapter:
      return {inspect_adapter(path)};
    case ArtifactKind::kPeftAdapter:
      return {inspect_peft_adapter(path)};
    case ArtifactKind::kOther:
      break;
  }
  if (holds_records(path) || is_there(path / "summary.json")) return {inspect_foreign_scores(path)};
  fail_unknown(path, "a directory without any of these" + trainer_text(path));
}

Inspected inspect_file(const fs::path& path) {
  if (path.extension() == ".h5") {
    std::string format;
    {
      const h5::File file = h5::File::open(path);
      if (file.has_attribute("/", "format")) format = file.get_text("/", "format");
    }
    if (format == "sutor.token_store") return inspect_token_store(path);
    if (format.starts_with("sutor-scores")) return {inspect_scores(path)};
    fail_unknown(path, format.empty() ? "an HDF5 file without the attribute `format`"
                                      : fmt::format("an HDF5 file of format `{}`", format));
  }
  if (path.filename() == "config.json") {
    return {inspect_model(path.has_parent_path() ? path.parent_path() : fs::path("."))};
  }
  if (path.extension() == ".json") {
    const nlohmann::json json = parse_json(read_file(path)).value;
    if (json.is_object() && json.contains("model_type")) return {inspect_config(path)};
    if (path.filename() == "summary.json" || (json.is_object() && json.contains("token_scores"))) {
      return {inspect_foreign_scores(path)};
    }
    return inspect_expert_config(path);
  }
  fail_unknown(path, "a file of another kind");
}

Inspected inspect_path(const fs::path& path, bool verify) {
  return is_folder(path) ? inspect_directory(path, verify) : inspect_file(path);
}

int inspect(const Arguments& arguments) {
  po::options_description options(100);
  auto add = options.add_options();
  add("path", po::value<std::string>()->required(), "what to inspect");
  add("json", po::bool_switch(), "print JSON");
  add("verify", po::bool_switch(),
      "checkpoints and base stores: read all data and check every digest");
  po::positional_options_description positional;
  positional.add("path", 1);
  const auto values = parse_command_line(kHelp, options, positional, arguments);
  if (!values) return kExitOk;
  const fs::path path = existing_path((*values)["path"].as<std::string>());
  const Inspected inspected = inspect_path(path, (*values)["verify"].as<bool>());
  const InspectReport& report = inspected.report;
  fmt::print("{}", (*values)["json"].as<bool>() ? report.json() : report.text());
  return inspected.exit_code;
}

}  // namespace

int verb_inspect(const Arguments& arguments) {
  return run_alone([&] { return inspect(arguments); });
}

}  // namespace sutor
