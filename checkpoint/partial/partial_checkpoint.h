// Writing a partial checkpoint: what the optimizer keeps of the trained parameters, and the
// training state; nothing frozen. Free of MPI: the caller makes the ranks agree. The order is
//   rank 0: begin_checkpoint; barrier; every rank: CheckpointWriter::add ..., write; gather the
//   records; rank 0: publish_checkpoint. If any rank fails before: rank 0 discard_checkpoint.
// Before publish_checkpoint renames the staging directory nothing is visible under the final name;
// after it returned the checkpoint survives a power cut. checkpoint/FORMAT.md describes the files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/tile_index.h"
#include "csrc/base/hdf5/h5.h"
#include "parallel_state/model/sharded_tensor.h"

namespace sutor {

// Makes the staging directory (mode 0700) with an OWNER file. Throws E0220 when it exists, E0501 or
// E0502 when the disk refuses, E0501 also when fewer than `bytes` (0: unknown) are free.
void begin_checkpoint(const std::filesystem::path& root, int64_t step, const std::string& uuid,
                      int64_t bytes = 0);

// Removes what begin_checkpoint and the writers left; does nothing when there is nothing.
void discard_checkpoint(const std::filesystem::path& root, int64_t step, const std::string& uuid);

// One rank's part. The staging directory must exist.
class CheckpointWriter {
 public:
  // `writer`: this rank's number; no two writers of a checkpoint share one. `kinds`: what is stored
  // of every tensor, the same for all writers.
  CheckpointWriter(const std::filesystem::path& root, int64_t step, const std::string& uuid,
                   int writer, std::vector<StateKind> kinds);

  // Rows, or columns of rows, that this rank owns, to be split into tiles, in the kind's dtype. The
  // memory is read by write(), so it has to stay unchanged until then. Zero rows or columns are
  // allowed and add nothing. A piece whose values are not in host memory has no data: then `fetch`
  // brings rows of it, by calling `use` with them.
  using Use = std::function<void(const ShardedTensor&)>;
  using Fetch = std::function<void(const ShardedTensor& rows, const Use& use)>;
  void add(std::string_view kind, const ShardedTensor& piece, Fetch fetch = {});

  // Writes, fsyncs and reads back w<writer>.h5 and w<writer>.idx, and returns the record for rank 0
  // as JSON text; "null" (and no file) when nothing was added. Throws E0701 naming tensor and kind
  // when a value is not finite, E0501 or E0502 when the disk refuses.
  std::string write();

 private:
  struct Part {
    uint32_t kind;
    ShardedTensor piece;
    Fetch fetch;
  };
  // Cuts the parts into tiles, sorted by dataset path; `part_of_tile` receives the part of each.
  TileIndex plan(std::vector<const Part*>& part_of_tile) const;
  h5::File::Finished write_tiles(const std::filesystem::path& path,
                                 const std::vector<const Part*>& part_of_tile,
                                 TileIndex& index) const;

  std::filesystem::path staging_;
  int writer_;
  std::vector<StateKind> kinds_;
  std::vector<Part> parts_;
};

// Rank 0, after every writer succeeded. `records`: what each writer returned. `wanted`: every
// trained tensor with its whole shape; each of its elements must stand exactly once under each kind
// of meta.optimizer (E0346 names the first that does not). Writes state.h5 and MANIFEST.json,
// fsyncs, renames, and updates LATEST. An invalid checkpoint of the same step is moved to the trash
// first; a valid one is E0220. Returns the final directory.
std::filesystem::path publish_checkpoint(const std::filesystem::path& root, int64_t step,
                                         const std::string& uuid,
                                         const std::vector<std::string>& records,
                                         const CheckpointMeta& meta,
                                         const std::vector<IndexedTensor>& wanted);

// Bytes that a checkpoint of these tensors takes, a little rounded up; without metrics.
int64_t estimate_checkpoint_bytes(const std::vector<IndexedTensor>& wanted,
                                  const std::vector<StateKind>& kinds);

}  // namespace sutor
