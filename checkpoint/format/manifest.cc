#include "checkpoint/format/manifest.h"

#include <utility>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/manifest_json.h"
#include "checkpoint/format/tile_index.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/format_versions.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "sutor.partial_checkpoint";

json optimizer_json(const OptimizerState& state) {
  json kinds = json::array();
  for (const StateKind& kind : state.kinds) {
    kinds.push_back({{"name", kind.name}, {"dtype", name_of(kind.dtype)}});
  }
  return {{"name", state.optimizer}, {"values", state.values}, {"state", kinds}};
}

OptimizerState optimizer_state(const json& value, const std::string& where) {
  if (!value.is_object()) fail_manifest(where, "key `optimizer` must be an object");
  OptimizerState state;
  state.optimizer = member<std::string>(value, "name", where);
  state.values = member<std::string>(value, "values", where);
  bool has_values = false;
  for (const json& entry : list_member(value, "state", where)) {
    StateKind kind{.name = member<std::string>(entry, "name", where)};
    const auto dtype = member<std::string>(entry, "dtype", where);
    const std::optional<DType> known = state_dtype(dtype);
    if (!known) fail_manifest(where, fmt::format("{} has the unknown dtype {}", kind.name, dtype));
    kind.dtype = *known;
    has_values |= kind.name == state.values;
    state.kinds.push_back(std::move(kind));
  }
  if (!has_values) fail_manifest(where, fmt::format("no state is called {}", state.values));
  return state;
}

}  // namespace

int64_t Manifest::total_bytes() const {
  int64_t total = state_bytes;
  for (const FileRecord& file : files) total += file.bytes + file.index_bytes;
  return total;
}

json to_json(const FileRecord& record) {
  return {{"writer", record.writer},
          {"name", writer_file(record.writer)},
          {"bytes", record.bytes},
          {"metadata_digest", record.metadata_digest.text()},
          {"index", index_file(record.writer)},
          {"index_bytes", record.index_bytes},
          {"index_digest", record.index_digest.text()},
          {"tiles", record.tiles}};
}

FileRecord file_record(const json& value, const std::string& where) {
  if (!value.is_object()) fail_manifest(where, "a file record is not an object");
  FileRecord record;
  record.writer = member<int>(value, "writer", where);
  record.bytes = member<int64_t>(value, "bytes", where);
  record.metadata_digest = digest_member(value, "metadata_digest", where);
  record.index_bytes = member<int64_t>(value, "index_bytes", where);
  record.index_digest = digest_member(value, "index_digest", where);
  record.tiles = member<int64_t>(value, "tiles", where);
  // Names follow from the writer, so that no manifest can point anywhere else.
  if (member<std::string>(value, "name", where) != writer_file(record.writer) ||
      member<std::string>(value, "index", where) != index_file(record.writer)) {
    fail_manifest(where,
                  fmt::format("the files of writer {} must be called {} and {}", record.writer,
                              writer_file(record.writer), index_file(record.writer)));
  }
  return record;
}

std::string encode_manifest(const Manifest& manifest) {
  const CheckpointMeta& meta = manifest.meta;
  json body = {{"format", kFormat},
               {"format_version", kCheckpointManifestVersion},
               {"step", meta.step},
               {"uuid", manifest.uuid},
               {"base_digest", meta.base_digest},
               {"plan_digest", meta.plan_digest},
               {"expert_config", meta.expert_config},
               {"layout", meta.layout},
               {"optimizer", optimizer_json(meta.optimizer)},
               {"provenance", meta.provenance},
               {"tensors", manifest.tensors},
               {"parameters", manifest.parameters},
               {"state",
                {{"name", kStateFile},
                 {"bytes", manifest.state_bytes},
                 {"digest", manifest.state_digest.text()}}}};
  if (!meta.base_config.is_null()) body["base_config"] = meta.base_config;
  body["files"] = json::array();
  for (const FileRecord& file : manifest.files) body["files"].push_back(to_json(file));
  return encode_manifest_json(body);
}

Manifest decode_manifest(const std::string& text, const std::string& where) {
  const json body = parse_manifest_json(text, where, kFormat, kCheckpointManifestVersion);
  Manifest manifest;
  manifest.meta.step = member<int64_t>(body, "step", where);
  manifest.uuid = member<std::string>(body, "uuid", where);
  manifest.meta.base_digest = member<std::string>(body, "base_digest", where);
  if (body.contains("base_config")) {
    manifest.meta.base_config = member<json>(body, "base_config", where);
    if (!manifest.meta.base_config.is_object()) {
      fail_manifest(where, "key `base_config` must be an object");
    }
  }
  manifest.meta.plan_digest = member<std::string>(body, "plan_digest", where);
  manifest.meta.expert_config = member<json>(body, "expert_config", where);
  manifest.meta.layout = member<std::string>(body, "layout", where);
  manifest.meta.optimizer = body.contains("optimizer")
                                ? optimizer_state(member<json>(body, "optimizer", where), where)
                                : first_optimizer_state();
  manifest.meta.provenance = member<json>(body, "provenance", where);
  manifest.tensors = member<int64_t>(body, "tensors", where);
  manifest.parameters = member<int64_t>(body, "parameters", where);
  const json state = member<json>(body, "state", where);
  if (member<std::string>(state, "name", where) != kStateFile) {
    fail_manifest(where, fmt::format("the state's file must be called {}", kStateFile));
  }
  manifest.state_bytes = member<int64_t>(state, "bytes", where);
  manifest.state_digest = digest_member(state, "digest", where);
  for (const json& file : list_member(body, "files", where)) {
    manifest.files.push_back(file_record(file, where));
    const size_t count = manifest.files.size();
    if (count > 1 && manifest.files[count - 2].writer >= manifest.files[count - 1].writer) {
      fail_manifest(where, "its writers must be listed once, in order");
    }
  }
  return manifest;
}

std::vector<FileSize> Manifest::file_sizes() const {
  std::vector<FileSize> sizes = {{kStateFile, state_bytes}};
  for (const FileRecord& file : files) {
    sizes.push_back({writer_file(file.writer), file.bytes});
    sizes.push_back({index_file(file.writer), file.index_bytes});
  }
  return sizes;
}

Manifest load_manifest(const fs::path& directory) {
  const fs::path path = directory / kManifestFile;
  std::error_code error;
  if (!fs::exists(path, error)) {
    if (error) {
      fail(ErrorCode::kUnreadableFile, "cannot look up {}: {}", path.string(), error.message());
    }
    fail(ErrorCode::kIncomplete, "{} is not a complete checkpoint: it has no {}",
         directory.string(), kManifestFile);
  }
  return decode_manifest(read_file(path, kMaxManifestBytes), path.string());
}

Manifest read_manifest(const fs::path& directory) {
  Manifest manifest = load_manifest(directory);
  for (const FileSize& file : manifest.file_sizes()) {
    check_file_size(directory / file.name, file.bytes);
  }
  return manifest;
}

}  // namespace sutor
