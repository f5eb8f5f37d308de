#include "launch/report/receipt.h"

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/peft_adapter.h"
#include "checkpoint/files/recorded_files.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/text/json.h"
#include "launch/cli/provenance.h"
#include "launch/data/rows/sha256.h"
#include "launch/log/run_record.h"
#include "launch/report/run_results.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// What a receipt lists, with digests. Paths below the run's folder are relative to it, so that the
// folder may move; all others are absolute.
class Artifacts {
 public:
  explicit Artifacts(fs::path root) : root_(std::move(root)) {}

  // Nothing happens when there is no such file.
  void add_file(const std::string& role, const fs::path& path, Json facts = Json::object()) {
    if (!is_file(path)) return;
    Json entry = {{"role", role}};
    entry.update(facts);
    entry["path"] = name_of(path);
    entry["bytes"] = bytes_of(path);
    entry["sha256"] = hex_of(path);
    add(std::move(entry));
  }

  // A folder by the one of its files that has the digests of the others; without such a file by all
  // of them.
  void add_folder(const std::string& role, const fs::path& path, Json facts = Json::object()) {
    if (!is_folder(path)) return;
    Json entry = {{"role", role}};
    entry.update(facts);
    entry["path"] = name_of(path);
    for (const std::string& manifest :
         {std::string(kManifestFile), std::string(kMergedInfoFile), std::string(kAdapterInfoFile),
          std::string(kPeftInfoFile), std::string(kModelFilesFile)}) {
      if (!is_file(path / manifest)) continue;
      entry["manifest"] = manifest;
      entry["manifest_sha256"] = hex_of(path / manifest);
      return add(std::move(entry));
    }
    Json files = Json::object();
    add_sums(path, path, files);
    entry["files"] = std::move(files);
    add(std::move(entry));
  }

  void add(Json entry) { list_.push_back(std::move(entry)); }
  std::string name_of(const fs::path& path) const {
    const fs::path inner = path.lexically_relative(root_);
    if (!inner.empty() && *inner.begin() != "..") return inner.generic_string();
    return real_path(path).string();
  }
  const Json& list() const { return list_; }

 private:
  static std::string hex_of(const fs::path& path) {
    const std::string text = sha256_of_file(path);
    return text.substr(text.find(':') + 1);
  }

  static void add_sums(const fs::path& root, const fs::path& folder, Json& files) {
    for (const fs::path& entry : entries_of(folder)) {
      if (is_file(entry)) files[entry.lexically_relative(root).generic_string()] = hex_of(entry);
      std::error_code error;
      if (is_folder(entry) && !fs::is_symlink(entry, error)) add_sums(root, entry, files);
    }
  }

  fs::path root_;
  Json list_ = Json::array();
};

// The last start, or an empty object.
nlohmann::json last_start(const nlohmann::json& record) {
  const nlohmann::json& starts = record.at("starts");
  return starts.empty() || !starts.back().is_object() ? nlohmann::json::object() : starts.back();
}

std::string text_in(const nlohmann::json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

nlohmann::json object_in(const nlohmann::json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_object() ? *at : nlohmann::json::object();
}

// A path that the record has: what lay in the run's folder still does, wherever that is now.
fs::path place_now(const RunPaths& paths, const nlohmann::json& start, const fs::path& then) {
  const fs::path inner = then.lexically_relative(text_in(start, "output"));
  return inner.empty() || *inner.begin() == ".." ? then : paths.output / inner;
}

void add_base(const nlohmann::json& start, Artifacts& artifacts) {
  const nlohmann::json model = object_in(start, "model");
  const std::string path = text_in(model, "path"), digest = text_in(start, "base_digest");
  if (path.empty() || digest.empty()) return;
  artifacts.add({{"role", "base"},
                 {"path", path},
                 {"adapters", model.value("adapters", nlohmann::json::array())},
                 {"weights", digest}});
  const fs::path files = is_folder(path) ? model_files_root(path) : fs::path(path);
  for (const char* file : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    artifacts.add_file("base_file", files / file);
  }
}

void add_data(const RunPaths& paths, const nlohmann::json& start, Artifacts& artifacts) {
  const nlohmann::json sets = object_in(start, "data").value("sets", nlohmann::json::array());
  if (!sets.empty()) {
    for (const nlohmann::json& set : sets) {
      if (!set.is_object()) continue;
      const fs::path path = place_now(paths, start, text_in(set, "path"));
      artifacts.add_file("tokens", path,
                         {{"use", text_in(set, "use")}, {"name", text_in(set, "name")}});
    }
    return;
  }
  if (!is_folder(paths.tokens_folder())) return;
  for (const fs::path& file : entries_of(paths.tokens_folder())) {
    if (file.filename().string().ends_with(".tokens.h5")) artifacts.add_file("tokens", file);
  }
}

void add_selection(const RunPaths& paths, const nlohmann::json& start, Artifacts& artifacts) {
  artifacts.add_file("scores", paths.scores());
  const std::string given = text_in(start, "expert_config");
  artifacts.add_file("expert_config",
                     given.empty() ? paths.expert_config() : place_now(paths, start, given));
  artifacts.add_file("heat_map", paths.heat_map());
}

void add_outputs(const RunPaths& paths, const Json& checkpoints, Artifacts& artifacts) {
  artifacts.add_file("recipe", paths.resolved_recipe());
  artifacts.add_file("plan", paths.output / "plan.json");
  artifacts.add_file("record", run_record_path(paths));
  artifacts.add_file("metrics", paths.metrics());
  artifacts.add_file("evaluations", paths.evaluations());
  artifacts.add_file("evaluation", paths.evaluation() / "evaluation.json");
  for (const Json& checkpoint : checkpoints) {
    if (!checkpoint["complete"].get<bool>()) continue;
    artifacts.add_folder("checkpoint",
                         paths.checkpoints() / checkpoint["folder"].get<std::string>(),
                         {{"step", checkpoint["step"]}, {"marks", checkpoint["marks"]}});
  }
  const fs::path exports = paths.adapter().parent_path();
  if (!is_folder(exports)) return;
  for (const fs::path& folder : entries_of(exports)) {
    const std::string name = folder.filename().string();
    if (!name.starts_with(".")) artifacts.add_folder("export", folder, {{"format", name}});
  }
}

// Beginning and end of every start, without what the last one says at length.
Json starts_of(const nlohmann::json& record) {
  Json starts = Json::array();
  for (const nlohmann::json& start : record.at("starts")) {
    if (!start.is_object()) continue;
    starts.push_back({{"begin", text_in(start, "begin")},
                      {"command", text_in(object_in(start, "program"), "command")},
                      {"from_step", start.value("from_step", nlohmann::json())},
                      {"end", start.value("end", nlohmann::json())}});
  }
  return starts;
}

}  // namespace

std::string run_standing(const nlohmann::json& record) {
  if (record.at("starts").empty()) return "prepared";
  const std::string how = text_in(object_in(last_start(record), "end"), "how");
  return how.empty() ? "interrupted" : how;
}

std::string receipt_digest(nlohmann::json receipt) {
  receipt.erase("digest");
  const std::string text = dump_json(receipt);
  Sha256 sum;
  sum.update(std::as_bytes(std::span(text)));
  return sum.text();
}

nlohmann::ordered_json make_receipt(const RunPaths& given) {
  const RunPaths paths(real_path(given.output));
  const nlohmann::json record = read_run_record(run_record_path(paths));
  const nlohmann::json start = last_start(record);
  const Json checkpoints = checkpoint_results(paths);
  Artifacts artifacts(paths.output);
  add_base(start, artifacts);
  add_data(paths, start, artifacts);
  add_selection(paths, start, artifacts);
  add_outputs(paths, checkpoints, artifacts);
  Json receipt = {{"format", kReceiptFormat},
                  {"version", kReceiptVersion},
                  {"written", utc_now()},
                  {"writer", version_text()},
                  {"standing", run_standing(record)},
                  {"starts", starts_of(record)}};
  for (const char* key :
       {"program", "machine", "ranks", "threads", "layout", "device", "kernels", "libraries",
        "model", "trains", "from_step", "total_steps", "check", "by_rank"}) {
    if (start.contains(key)) receipt[key] = start[key];
  }
  receipt["training"] = training_results(paths);
  receipt["evaluation"] = evaluation_results(paths);
  receipt["best"] = best_result(paths);
  receipt["checkpoints"] = checkpoints;
  receipt["artifacts"] = artifacts.list();
  receipt["digest"] = receipt_digest(nlohmann::json::parse(dump_json(receipt)));
  return receipt;
}

void write_receipt(const RunPaths& paths, const nlohmann::ordered_json& receipt) {
  write_file_atomic(paths.output / kReceiptFile, dump_json(receipt, 1) + "\n");
}

}  // namespace sutor
