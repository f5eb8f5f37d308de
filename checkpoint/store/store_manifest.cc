#include "checkpoint/store/store_manifest.h"

#include <algorithm>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/manifest_json.h"
#include "checkpoint/huggingface/hf_index.h"
#include "checkpoint/huggingface/model_directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/format_versions.h"

namespace sutor {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr std::string_view kFormat = "sutor.base_store";
constexpr const char* kConfigFile = "config.json";

// Whether a path such as "a/b.txt" is below the folder, in its only spelling.
bool is_inner_path(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos) return false;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (!is_plain_name(path.substr(begin, end - begin))) return false;
    begin = end + 1;
  }
  return true;
}

// Names must rise, so that none occurs twice.
void check_next_name(const std::string& before, const std::string& name, bool plain,
                     const std::string& where) {
  if (plain ? !is_plain_name(name) : !is_inner_path(name)) {
    fail_manifest(where, fmt::format("{} is not the name of a file below the store",
                                     json(name).dump(-1, ' ', /*ensure_ascii=*/true,
                                                     json::error_handler_t::replace)));
  }
  if (!before.empty() && before >= name) {
    fail_manifest(where, fmt::format("file `{}` occurs twice or out of order", name));
  }
}

json to_json(const StoreManifest& manifest) {
  json body = {{"format", kFormat},
               {"format_version", kBaseStoreVersion},
               {"weights", manifest.weights.text()},
               {"tensors", manifest.tensors},
               {"data_bytes", manifest.data_bytes},
               {"max_file_bytes", manifest.max_file_bytes},
               {"provenance", manifest.provenance},
               {"shards", json::array()},
               {"data_files", json::array()},
               {"other_files", json::array()}};
  for (size_t i = 0; i < manifest.shards.size(); ++i) {
    const StoreShardRecord& shard = manifest.shards[i];
    body["shards"].push_back({{"name", shard.name},
                              {"bytes", shard.bytes},
                              {"header", store_header_file(i)},
                              {"header_bytes", shard.header_bytes},
                              {"header_digest", shard.header_digest.text()}});
  }
  for (size_t i = 0; i < manifest.data_files.size(); ++i) {
    const StoreDataFile& file = manifest.data_files[i];
    body["data_files"].push_back({{"name", store_data_file(i)},
                                  {"bytes", file.bytes},
                                  {"index", store_index_file(i)},
                                  {"index_bytes", file.index_bytes},
                                  {"index_digest", file.index_digest.text()}});
  }
  for (const StoreOtherFile& file : manifest.other_files) {
    body["other_files"].push_back(
        {{"path", file.path}, {"bytes", file.bytes}, {"digest", file.digest.text()}});
  }
  return body;
}

void read_files(const json& body, const std::string& where, StoreManifest& manifest) {
  std::string before;
  for (const json& item : list_member(body, "shards", where)) {
    StoreShardRecord shard{
        member<std::string>(item, "name", where), member<int64_t>(item, "bytes", where),
        member<int64_t>(item, "header_bytes", where), digest_member(item, "header_digest", where)};
    check_next_name(before, shard.name, /*plain=*/true, where);
    before = shard.name;
    manifest.shards.push_back(std::move(shard));
  }
  // The names of the store's own files follow from their numbers, so no manifest can point
  // elsewhere.
  for (const json& item : list_member(body, "data_files", where)) {
    manifest.data_files.push_back({member<int64_t>(item, "bytes", where),
                                   member<int64_t>(item, "index_bytes", where),
                                   digest_member(item, "index_digest", where)});
  }
  before.clear();
  for (const json& item : list_member(body, "other_files", where)) {
    StoreOtherFile file{member<std::string>(item, "path", where),
                        member<int64_t>(item, "bytes", where),
                        digest_member(item, "digest", where)};
    check_next_name(before, file.path, /*plain=*/false, where);
    before = file.path;
    manifest.other_files.push_back(std::move(file));
  }
}

}  // namespace

const StoreOtherFile* StoreManifest::find_file(const std::string& path) const {
  const auto at = std::find_if(other_files.begin(), other_files.end(),
                               [&](const StoreOtherFile& file) { return file.path == path; });
  return at == other_files.end() ? nullptr : &*at;
}

int64_t StoreManifest::total_bytes() const {
  int64_t total = 0;
  for (const StoreShardRecord& shard : shards) total += shard.header_bytes;
  for (const StoreDataFile& file : data_files) total += file.bytes + file.index_bytes;
  for (const StoreOtherFile& file : other_files) total += file.bytes;
  return total;
}

std::string encode_store_manifest(const StoreManifest& manifest) {
  return encode_manifest_json(to_json(manifest));
}

StoreManifest decode_store_manifest(const std::string& text, const std::string& where) {
  const json body = parse_manifest_json(text, where, kFormat, kBaseStoreVersion);
  StoreManifest manifest;
  manifest.weights = digest_member(body, "weights", where);
  manifest.tensors = member<int64_t>(body, "tensors", where);
  manifest.data_bytes = member<int64_t>(body, "data_bytes", where);
  manifest.max_file_bytes = member<int64_t>(body, "max_file_bytes", where);
  manifest.provenance = member<json>(body, "provenance", where);
  read_files(body, where, manifest);
  if (!manifest.find_file(kConfigFile)) {
    fail_manifest(where, fmt::format("it lists no {}", kConfigFile));
  }
  return manifest;
}

std::vector<FileSize> StoreManifest::file_sizes() const {
  std::vector<FileSize> files;
  for (size_t i = 0; i < shards.size(); ++i) {
    files.push_back({store_header_file(i), shards[i].header_bytes});
  }
  for (size_t i = 0; i < data_files.size(); ++i) {
    files.push_back({store_data_file(i), data_files[i].bytes});
    files.push_back({store_index_file(i), data_files[i].index_bytes});
  }
  for (const StoreOtherFile& file : other_files) {
    files.push_back({fs::path(kStoreFilesFolder) / file.path, file.bytes});
  }
  return files;
}

StoreManifest load_store_manifest(const fs::path& store) {
  const fs::path path = store / kManifestFile;
  std::error_code error;
  if (!fs::exists(path, error)) {
    fail(ErrorCode::kIncomplete, "{} is not a complete base store: it has no {}", store.string(),
         kManifestFile);
  }
  return decode_store_manifest(read_file(path, kMaxManifestBytes), path.string());
}

StoreManifest read_store_manifest(const fs::path& store) {
  StoreManifest manifest = load_store_manifest(store);
  for (const FileSize& file : manifest.file_sizes()) check_file_size(store / file.name, file.bytes);
  return manifest;
}

bool is_base_store(const fs::path& path) {
  std::error_code error;
  if (fs::exists(path / kConfigFile, error)) return false;
  if (fs::is_directory(path / fs::path(store_header_file(0)).parent_path(), error)) return true;
  return fs::is_regular_file(path / kManifestFile, error) &&
         has_manifest_format(read_file(path / kManifestFile, kMaxManifestBytes), kFormat);
}

std::string read_store_config(const fs::path& store, const StoreManifest& manifest) {
  const fs::path path = store / kStoreFilesFolder / kConfigFile;
  std::string text = read_file(path, kMaxConfigFileBytes);
  if (xxh3(text) != manifest.find_file(kConfigFile)->digest) {
    fail(ErrorCode::kCorrupted, "{} is corrupt: its digest is not the one in the manifest",
         path.string());
  }
  return text;
}

}  // namespace sutor
