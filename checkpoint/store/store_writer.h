// Writing a base store: data files and other files one by one, by any rank, then the manifest by
// one of them. Nothing is in its place below content/ before it is complete and on the disk, so
// that a later start goes on from there. Free of MPI: the caller deals out the files and makes the
// ranks agree.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/files/resumable_directory.h"
#include "checkpoint/huggingface/model_directory.h"
#include "checkpoint/store/store_index.h"
#include "checkpoint/store/store_manifest.h"
#include "checkpoint/store/store_plan.h"

namespace sutor {

// Text that two starts share when what the first one left is good for the second one: of the plan,
// and of the source's headers, sizes and times of change.
std::string store_fingerprint(const ModelDirectory& source, const StorePlan& plan);

// The index of a data file that an earlier start completed; nothing when it did not.
std::optional<StoreIndex> finished_data_file(const StagingPaths& staging, size_t number);

// One data file: copy(), then finish(), perhaps on another thread while the next file is copied.
class StoreFileWriter {
 public:
  // Arguments must outlive the writer.
  StoreFileWriter(const StoreFilePlan& plan, int64_t tile_bytes, size_t number,
                  const StagingPaths& staging);

  // Makes the file and copies the tensors on `threads` threads (0 = all). Throws E0501 or E0502
  // when the disk refuses, and what the source throws.
  void copy(int threads);
  // fsyncs it, writes its index, and puts both in their places.
  void finish();

 private:
  struct SliceTiles {
    size_t first_tile = 0, num_tiles = 0;
  };

  void make_file();
  void copy_slice(size_t number);

  const StoreFilePlan& plan_;
  int64_t tile_bytes_;
  size_t number_;
  const StagingPaths& staging_;
  std::filesystem::path part_;
  StoreIndex index_;
  std::vector<SliceTiles> slice_tiles_;  // of each part, in index_.tiles
  std::optional<PatchedFile> file_;
};

// Copies one of source.other_files() to `name` below content/.
StoreOtherFile copy_other_file(const ModelDirectory& source, const std::string& path,
                               const StagingPaths& staging, const std::filesystem::path& name);

// After all files: headers and manifest. `other_files` in any order.
void write_store_manifest(const ModelDirectory& source, const StorePlan& plan,
                          std::vector<StoreOtherFile> other_files, const nlohmann::json& provenance,
                          const StagingPaths& staging);

}  // namespace sutor
