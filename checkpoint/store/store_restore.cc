#include "checkpoint/store/store_restore.h"

#include "checkpoint/files/file_content.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/store/store_writer.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"

namespace sutor {
namespace fs = std::filesystem;

std::string restore_fingerprint(const BaseStore& store) {
  return fmt::format("model directory of the base store {}\n",
                     content_digest(InputFile(store.path() / kManifestFile)).text());
}

bool finished_shard(const BaseStore& store, size_t shard, const StagingPaths& staging) {
  std::error_code error;
  const fs::path path = staging.content / store.shards()[shard]->name();
  return fs::is_regular_file(path, error) &&
         static_cast<int64_t>(fs::file_size(path, error)) == store.shards()[shard]->size();
}

void restore_shard(const BaseStore& store, size_t number, const StagingPaths& staging,
                   int threads) {
  const ModelShard& shard = *store.shards()[number];
  const fs::path part = staging.new_part();
  OffsetFile file(part);
  file.reserve(shard.size());
  const std::string header = shard.header_bytes();
  file.write_at(0, std::as_bytes(std::span(header)));
  parallel_tasks(threads, static_cast<int64_t>(shard.tensors().size()), [&](int64_t i) {
    const SafetensorsEntry& entry = shard.tensors()[static_cast<size_t>(i)];
    int64_t at = entry.begin, started = entry.begin;
    const auto start = [&] {
      file.start_writing(started, at - started);
      started = at;
    };
    shard.stream(entry.begin, entry.end, [&](std::span<const std::byte> chunk) {
      file.write_at(at, chunk);
      at += static_cast<int64_t>(chunk.size());
      if (at - started >= kTileBytes) start();
    });
    start();
  });
  file.finish();
  staging.move_to_content(part, shard.name());
}

void restore_other_file(const BaseStore& store, const StoreOtherFile& file,
                        const StagingPaths& staging) {
  if (copy_other_file(store, file.path, staging, file.path).digest == file.digest) return;
  fail(ErrorCode::kCorrupted, "{} is corrupt: its digest is not the one in the manifest",
       (store.files_root() / file.path).string());
}

}  // namespace sutor
