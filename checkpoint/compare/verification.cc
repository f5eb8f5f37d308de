#include "checkpoint/compare/verification.h"

#include <fmt/ranges.h>

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
constexpr const char* kNothingRecorded =
    "there are no recorded digests, so other values would not show";
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

// Without the entries that say of a file as a whole what another entry says of a part of it.
std::vector<Corruption> without_repetitions(std::vector<Corruption> found) {
  std::set<std::string> in_part;
  for (const Corruption& each : found) {
    if (!each.location.empty()) in_part.insert(each.file);
  }
  std::erase_if(found, [&](const Corruption& each) {
    return each.location.empty() && each.code == ErrorCode::kCorrupted &&
           in_part.contains(each.file);
  });
  return found;
}

// Checks names, shapes and dtypes against the family.
void check_model(const ModelDirectory& directory, const TensorMap* model,
                 CorruptionList& corruption) {
  if (!model) return;
  corruption.check(directory.path(), [&] { directory.check(*model); });
}

// Checks the tensors that an export changed against the digests that it recorded.
void check_export_info(const ModelDirectory& directory, const TensorMap* model,
                       const std::map<std::string, Digest>& recorded,
                       const std::map<std::string, Digest>& digests, int threads,
                       CorruptionList& corruption) {
  if (!model) return;
  const fs::path file = directory.files_root() / kMergedInfoFile;
  const std::vector<std::pair<std::string, Digest>> tensors(recorded.begin(), recorded.end());
  parallel_tasks(threads, static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    const auto& [name, expected] = tensors[static_cast<size_t>(i)];
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

// "; no part of it: config.json, training_args.bin"
std::string others_text(const fs::path& adapter) {
  std::vector<std::string> names;
  for (const fs::path& file : files_beside(adapter)) names.push_back(file.filename().string());
  return names.empty() ? "" : fmt::format("; no part of it: {}", fmt::join(names, ", "));
}

void check_adapter_tensors(const fs::path& path, int threads, const TensorMap* model,
                           Verification& result, CorruptionList& corruption) {
  const Adapter adapter(path);
  if (!adapter.recorded_files().empty()) {
    result.checked = fmt::format("every byte of every file against {}", kAdapterInfoFile);
  } else if (!adapter.recorded_digests().empty()) {
    result.checked = fmt::format(
        "headers, and every tensor against {}, which an older program wrote without a list of "
        "files",
        kAdapterInfoFile);
  } else {
    result.checked = fmt::format("headers and expert config; {}", kNothingRecorded);
  }
  if (model) {
    adapter.check_tensors(*model, (path / "config.json").string());
    result.checked += "; names and shapes against config.json";
  }
  result.checked += others_text(path);
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
}

}  // namespace

Verification verify_model(const fs::path& path, const TensorMap* model, int threads) {
  Verification result{.kind = "model directory", .path = path.string()};
  result.checked = model ? "headers, offsets, index, config and shapes"
                         : "headers, offsets and index; sutor does not know the family";
  CorruptionList corruption(kFetchAgain);
  ModelRecord record;
  MergedInfo info;
  corruption.check(path, [&] {
    record = recorded_model_files(path);
    info = read_merged_info(path).value_or(MergedInfo{});
  });
  if (!record.file.empty()) {
    result.checked =
        fmt::format("every byte of every file against {}; {}", record.file, result.checked);
    corruption.check(path,
                     [&] { check_recorded(path, record.file, record.files, threads, corruption); });
  } else {
    result.checked += info.tensors.empty()
                          ? fmt::format("; {}", kNothingRecorded)
                          : "; there are no recorded digests but those of the trained tensors";
  }
  if (check_shards(path, corruption)) {
    corruption.check(path, [&] {
      const HfDirectory directory(path);
      result.tensors = static_cast<int64_t>(directory.num_tensors());
      result.bytes = directory.total_bytes();
      check_model(directory, model, corruption);
      result.tensor_digests = directory.tensor_digests(threads);
      result.weights = directory.digest_of(result.tensor_digests);
      check_export_info(directory, model, info.tensors, result.tensor_digests, threads, corruption);
    });
  }
  result.corruption = without_repetitions(corruption.take());
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

Verification verify_adapter_files(const fs::path& path, int threads, const TensorMap* model) {
  Verification result{.kind = "adapter", .path = path.string()};
  CorruptionList corruption(kExportAgain);
  std::vector<RecordedFile> files;
  if (!corruption.check(path / kAdapterInfoFile, [&] { files = recorded_adapter_files(path); })) {
    result.corruption = corruption.take();
    return result;
  }
  if (!files.empty()) check_recorded(path, kAdapterInfoFile, files, threads, corruption);
  CorruptionList of_content(kExportAgain);
  of_content.check(path, [&] { check_adapter_tensors(path, threads, model, result, of_content); });
  // What makes an adapter unreadable was told of its file.
  result.corruption = corruption.take();
  for (Corruption& found : of_content.take()) {
    if (result.corruption.empty() || !found.location.empty()) {
      result.corruption.push_back(std::move(found));
    }
  }
  result.corruption = without_repetitions(std::move(result.corruption));
  return result;
}

Verification verify_peft_adapter(const fs::path& path, int threads) {
  Verification result{.kind = "peft adapter", .path = path.string()};
  result.checked = fmt::format("header and configuration; {}", kNothingRecorded);
  CorruptionList corruption(kExportAgain);
  corruption.check(path, [&] {
    const std::vector<RecordedFile> files = PeftAdapter::recorded_files(path);
    if (!files.empty()) {
      result.checked = fmt::format("every byte of every file against {}", kPeftInfoFile);
      check_recorded(path, kPeftInfoFile, files, threads, corruption);
    }
    const PeftAdapter adapter(path);
    result.tensors = static_cast<int64_t>(adapter.num_tensors());
    result.bytes = size_of_file(path / kPeftWeightsFile);
  });
  result.corruption = corruption.take();
  return result;
}

}  // namespace sutor
