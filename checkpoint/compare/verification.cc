#include "checkpoint/compare/verification.h"

#include <algorithm>
#include <set>

#include "checkpoint/export/adapter.h"
#include "checkpoint/export/merged_export.h"
#include "checkpoint/export/peft_adapter.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/huggingface/stored_bytes.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "checkpoint/store/base_store.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFetchAgain = "Fetch or export the model again.";
constexpr const char* kExportAgain = "Fetch the adapter again, or export it again.";

int64_t size_of_file(const fs::path& path) { return is_file(path) ? bytes_of(path) : 0; }

// Checks the sizes of all files that a manifest lists, and that there are no others. Returns
// whether all listed ones are complete.
bool check_folder(const fs::path& folder, const std::vector<FileSize>& files,
                  CorruptionList& corruption) {
  std::set<fs::path> known = {fs::path(kManifestFile)};
  bool complete = true;
  for (const FileSize& file : files) {
    known.insert(file.name);
    const std::string found = wrong_size(folder / file.name, file.bytes);
    if (found.empty()) continue;
    complete = false;
    corruption.add({.code = ErrorCode::kWrongFileSize,
                    .file = (folder / file.name).string(),
                    .expected = fmt::format("{} bytes", file.bytes),
                    .found = found});
  }
  for (const fs::path& file : files_below(folder)) {
    if (known.contains(file)) continue;
    corruption.add({.code = ErrorCode::kWrongFileSize,
                    .file = (folder / file).string(),
                    .expected = "no such file, as the manifest does not list it",
                    .found = fmt::format("{} bytes", size_of_file(folder / file)),
                    .repair = "Move it away."});
  }
  return complete;
}

// Checks names, shapes and dtypes against the family.
void check_model(const ModelDirectory& directory, const TensorMap* model,
                 CorruptionList& corruption) {
  if (!model) return;
  corruption.check(directory.path(), [&] { directory.check(*model); });
}

// Checks the tensors that an export changed against the digests that it recorded.
void check_export_info(const ModelDirectory& directory, const TensorMap* model,
                       const std::map<std::string, Digest>& digests, int threads,
                       CorruptionList& corruption) {
  const fs::path file = directory.files_root() / kMergedInfoFile;
  if (!model || !is_there(file)) return;
  const nlohmann::json info = parse_json(read_file(file, int64_t{1} << 28)).value;
  if (!info.is_object() || !info.contains("tensors") || !info["tensors"].is_object()) {
    fail(ErrorCode::kBrokenFile, "{}: it does not list `tensors`", file.string());
  }
  std::vector<std::pair<std::string, Digest>> recorded;
  for (const auto& [name, digest] : info["tensors"].items()) {
    if (!digest.is_string()) {
      fail(ErrorCode::kBrokenFile, "{}: the digest of `{}` is not a string", file.string(), name);
    }
    recorded.emplace_back(name, parse_digest(digest.get<std::string>(), file.string()));
  }
  parallel_tasks(threads, static_cast<int64_t>(recorded.size()), [&](int64_t i) {
    const auto& [name, expected] = recorded[static_cast<size_t>(i)];
    corruption.check(file, [&, &name = name, &expected = expected] {
      const TensorEntry* entry = model->find(name);
      const auto source = entry ? directory.resolve(*entry) : std::nullopt;
      if (!source) {
        fail(ErrorCode::kMissingTensor, "{} lists tensor `{}`, which no file has", file.string(),
             name);
      }
      const StoredTensor& stored = source->stored;
      const bool entire = source->contiguous() && source->begin() == stored.entry->begin &&
                          source->end() == stored.entry->end;
      const Digest found =
          entire ? digests.at(stored.entry->name) : stored_digest(directory, *entry, *source);
      if (found == expected) return;
      corruption.add({.file = stored.file->where(),
                      .location = fmt::format("tensor `{}`", name),
                      .expected = fmt::format("{} ({})", expected.text(), kMergedInfoFile),
                      .found = found.text()});
    });
  });
}

// Checks the headers of all shards that the directory names. Returns whether all are sound.
bool check_shards(const fs::path& path, CorruptionList& corruption) {
  std::set<std::string> names;
  if (is_there(path / kSingleWeightsFile)) {
    names.insert(kSingleWeightsFile);
  } else if (is_there(path / kIndexFile)) {
    if (!corruption.check(path / kIndexFile, [&] {
          for (const auto& [name, file] : read_hf_index(path / kIndexFile).weight_map) {
            names.insert(file);
          }
        })) {
      return false;
    }
  }
  bool complete = true;
  for (const std::string& name : names) {
    const fs::path file = path / name;
    if (!is_there(file)) {
      corruption.add({.code = ErrorCode::kContradictoryShards,
                      .file = file.string(),
                      .expected = "a file, as the index lists it",
                      .found = "nothing"});
      complete = false;
      continue;
    }
    complete &= corruption.check(file, [&] { SafetensorsShard{file}; });
  }
  return complete;
}

}  // namespace

Verification verify_model(const fs::path& path, const TensorMap* model, int threads) {
  Verification result{.kind = "model directory", .path = path.string()};
  result.checked = model ? "headers, offsets, index, config and shapes"
                         : "headers, offsets and index; sutor does not know the family";
  CorruptionList corruption(kFetchAgain);
  if (check_shards(path, corruption)) {
    corruption.check(path, [&] {
      const HfDirectory directory(path);
      result.tensors = static_cast<int64_t>(directory.num_tensors());
      result.bytes = directory.total_bytes();
      check_model(directory, model, corruption);
      result.tensor_digests = directory.tensor_digests(threads);
      result.weights = directory.digest_of(result.tensor_digests);
      check_export_info(directory, model, result.tensor_digests, threads, corruption);
    });
  }
  result.corruption = corruption.take();
  return result;
}

Verification verify_base_store(const fs::path& path, const TensorMap* model, int threads) {
  Verification result{.kind = "base store", .path = path.string()};
  result.checked = "every tile, tensor, header, index and other file against the manifest";
  if (!model) result.checked += "; sutor does not know the family";
  CorruptionList corruption(kStoreRemedy);
  bool complete = false;
  corruption.check(path, [&] {
    complete = check_folder(path, load_store_manifest(path).file_sizes(), corruption);
  });
  if (complete) {
    corruption.check(path, [&] {
      const BaseStore store(path);
      result.tensors = static_cast<int64_t>(store.num_tensors());
      result.bytes = store.manifest().total_bytes() + size_of_file(path / kManifestFile);
      result.weights = store.manifest().weights;
      result.tensor_digests = store.tensor_digests();
      check_model(store, model, corruption);
      for (Corruption& found : store.find_corruption(threads)) corruption.add(std::move(found));
    });
  }
  result.corruption = corruption.take();
  return result;
}

Verification verify_checkpoint(const fs::path& path, int threads) {
  Verification result{.kind = "partial checkpoint", .path = path.string()};
  result.checked = "every tile, index and the state against the manifest";
  CorruptionList corruption(kCheckpointRemedy);
  bool complete = false;
  corruption.check(
      path, [&] { complete = check_folder(path, load_manifest(path).file_sizes(), corruption); });
  if (complete) {
    corruption.check(path, [&] {
      const CheckpointReader reader(path);
      result.tensors = reader.manifest().tensors;
      result.bytes = reader.manifest().total_bytes() + size_of_file(path / kManifestFile);
      for (Corruption& found : reader.find_corruption(threads)) corruption.add(std::move(found));
    });
  }
  result.corruption = corruption.take();
  return result;
}

Verification verify_adapter_files(const fs::path& path, int threads) {
  Verification result{.kind = "adapter", .path = path.string()};
  CorruptionList corruption(kExportAgain);
  corruption.check(path, [&] {
    const Adapter adapter(path);
    const bool recorded = !adapter.recorded_digests().empty();
    result.checked = recorded
                         ? fmt::format("headers, and every tensor against {}", kAdapterInfoFile)
                         : "headers and expert config; there are no recorded digests";
    result.tensors = static_cast<int64_t>(adapter.tensors().size());
    std::vector<std::pair<const StoredTensor*, Digest*>> work;
    for (const auto& [name, stored] : adapter.tensors()) {
      result.bytes += stored.entry->num_bytes();
      work.emplace_back(&stored, &result.tensor_digests[name]);
    }
    parallel_tasks(threads, static_cast<int64_t>(work.size()), [&](int64_t i) {
      const auto& [stored, digest] = work[static_cast<size_t>(i)];
      *digest = stored->file->digest(stored->entry->begin, stored->entry->end);
    });
    for (const auto& [name, expected] : adapter.recorded_digests()) {
      const Digest& found = result.tensor_digests.at(name);
      if (found == expected) continue;
      corruption.add({.file = adapter.tensors().at(name).file->where(),
                      .location = fmt::format("tensor `{}`", name),
                      .expected = fmt::format("{} ({})", expected.text(), kAdapterInfoFile),
                      .found = found.text()});
    }
  });
  result.corruption = corruption.take();
  return result;
}

Verification verify_peft_adapter(const fs::path& path) {
  Verification result{.kind = "peft adapter", .path = path.string()};
  result.checked = "header and configuration; there are no recorded digests";
  CorruptionList corruption(kExportAgain);
  corruption.check(path, [&] {
    const PeftAdapter adapter(path);
    result.tensors = static_cast<int64_t>(adapter.num_tensors());
    result.bytes = size_of_file(path / kPeftWeightsFile);
  });
  result.corruption = corruption.take();
  return result;
}

}  // namespace sutor
