// Restores the Hugging Face directory that a base store was made from, byte for byte: file by file,
// by any rank. Complete files are moved to content/.
#pragma once

#include <string>

#include "checkpoint/files/resumable_directory.h"
#include "checkpoint/store/base_store.h"

namespace sutor {

// Like store_fingerprint(), from the store's manifest, which determines everything.
std::string restore_fingerprint(const BaseStore& store);

// Whether an earlier start completed a shard.
bool finished_shard(const BaseStore& store, size_t shard, const StagingPaths& staging);

// Writes one safetensors file on `threads` threads (0 = all). Throws E0347 for a corrupt block,
// E0501 or E0502 when the disk refuses.
void restore_shard(const BaseStore& store, size_t shard, const StagingPaths& staging, int threads);

// The same for one of manifest().other_files.
void restore_other_file(const BaseStore& store, const StoreOtherFile& file,
                        const StagingPaths& staging);

}  // namespace sutor
