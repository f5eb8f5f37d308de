// Writes a base store: data files and other files one by one, by any rank, then the manifest by one
// of them. A file is moved to content/ only when it is complete and on the disk, so that a later
// start can continue. Free of MPI: the caller assigns the files to ranks and makes the ranks agree.
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
#include "csrc/base/hdf5/h5.h"

namespace sutor {

// A text from the plan and the source's headers, sizes and change times. If two starts have the
// same text, the second one can use what the first one left.
std::string store_fingerprint(const ModelDirectory& source, const StorePlan& plan);

// The index of a data file that an earlier start completed; nothing when there is none.
std::optional<StoreIndex> finished_data_file(const StagingPaths& staging, size_t number);

// Writes one data file: copy(), then finish(), possibly on another thread while the next file is
// copied.
class StoreFileWriter {
 public:
  // Arguments must outlive the writer.
  StoreFileWriter(const StoreFilePlan& plan, int64_t tile_bytes, size_t number,
                  const StagingPaths& staging);

  // Makes the file and copies the tensors on `threads` threads (0 = all). Throws E0501 or E0502
  // when the disk refuses, and what the source throws.
  void copy(int threads);
  // Fsyncs it, reads it back, writes its index, and moves both to content/. Throws as copy(); E0502
  // when the disk returns other bytes.
  void finish();

 private:
  struct SliceTiles {
    size_t first_tile = 0, num_tiles = 0;
  };

  void make_file();
  void copy_slice(size_t number);
  void compare_tiles() const;

  const StoreFilePlan& plan_;
  int64_t tile_bytes_;
  size_t number_;
  const StagingPaths& staging_;
  std::filesystem::path part_;
  StoreIndex index_;
  std::vector<SliceTiles> slice_tiles_;  // of each slice, in index_.tiles
  std::optional<h5::File> file_;
};

// Copies one of source.other_files() to `name` in content/.
StoreOtherFile copy_other_file(const ModelDirectory& source, const std::string& path,
                               const StagingPaths& staging, const std::filesystem::path& name);

// Writes headers and manifest, after all other files. `other_files`: in any order.
void write_store_manifest(const ModelDirectory& source, const StorePlan& plan,
                          std::vector<StoreOtherFile> other_files, const nlohmann::json& provenance,
                          const StagingPaths& staging);

}  // namespace sutor
