// Makes base stores in one process, at once or in steps, and model directories with everything that
// the formats allow.
#pragma once

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/store/base_store.h"
#include "checkpoint/store/store_restore.h"
#include "checkpoint/store/store_writer.h"
#include "tests/support/temp_dir.h"

namespace sutor::testing {

struct StoreOptions {
  int64_t max_file_bytes = kDefaultStoreFileBytes;
  int threads = 2;
  bool overwrite = false;
  size_t stop_after = ~size_t{0};  // after so many files it ends as a killed program would
};

// Returns how many data files were written; nothing is published when it was stopped.
inline size_t make_store(const std::filesystem::path& from, const std::filesystem::path& to,
                         const StoreOptions& options = {}) {
  const HfDirectory source(from);
  const StorePlan plan = plan_store(source, options.max_file_bytes);
  ResumableDirectory directory(to, store_fingerprint(source, plan), options.overwrite);
  if (directory.state() == ResumableDirectory::State::kPublished) return 0;
  const StagingPaths& staging = directory.paths();
  size_t steps = 0, written = 0;
  for (size_t i = 0; i < plan.files.size(); ++i) {
    if (finished_data_file(staging, i)) continue;
    if (steps++ == options.stop_after) return written;
    StoreFileWriter writer(plan.files[i], plan.tile_bytes, i, staging);
    writer.copy(options.threads);
    writer.finish();
    ++written;
  }
  std::vector<StoreOtherFile> others;
  for (const std::string& file : plan.other_files) {
    if (steps++ == options.stop_after) return written;
    others.push_back(
        copy_other_file(source, file, staging, std::filesystem::path(kStoreFilesFolder) / file));
  }
  if (steps++ == options.stop_after) return written;
  write_store_manifest(source, plan, others, {{"program", "test"}}, staging);
  if (steps++ == options.stop_after) return written;
  directory.publish();
  return written;
}

inline void restore_store(const std::filesystem::path& from, const std::filesystem::path& to) {
  const BaseStore store(from);
  ResumableDirectory directory(to, restore_fingerprint(store), false);
  for (size_t i = 0; i < store.shards().size(); ++i) {
    if (!finished_shard(store, i, directory.paths())) restore_shard(store, i, directory.paths(), 2);
  }
  for (const StoreOtherFile& file : store.manifest().other_files) {
    restore_other_file(store, file, directory.paths());
  }
  directory.publish();
}

// Every file below a folder, by its relative path.
inline std::map<std::string, std::string> contents_below(const std::filesystem::path& folder) {
  const TempDir reader;
  std::map<std::string, std::string> contents;
  for (const std::filesystem::path& file : files_below(folder)) {
    contents[file.string()] = reader.read(folder / file);
  }
  return contents;
}

// Bytes that differ between any two tensors, NaN payloads included.
inline std::string bytes_of_name(const std::string& name, int64_t count) {
  std::string bytes(static_cast<size_t>(count), '\0');
  uint64_t state = xxh3(name).low;
  for (char& byte : bytes) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

inline void write_bytes(const std::filesystem::path& path,
                        const std::vector<SafetensorsDeclaration>& tensors) {
  SafetensorsWriter writer(path, tensors);
  for (const SafetensorsDeclaration& tensor : tensors) {
    const std::string bytes = bytes_of_name(tensor.name, tensor.num_bytes());
    writer.append(std::as_bytes(std::span(bytes)));
  }
  writer.finish();
}

}  // namespace sutor::testing
