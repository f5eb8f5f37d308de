#include "checkpoint/merged_export.h"

#include <algorithm>

#include "checkpoint/export_plan.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr int kFormatVersion = 1;

void copy_whole(const fs::path& from, const fs::path& to) {
  const InputFile source(from);
  fs::create_directories(to.parent_path());
  OutputFile target(to);
  target.reserve(source.size());
  target.append_range(source, 0, source.size());
  target.finish();
}

void write_shard(const ModelShard& base, const std::vector<TrainedRange>& ranges,
                 const std::map<std::string, const TrainedTensor*>& trained, const fs::path& to,
                 std::map<std::string, Digest>& digests) {
  OutputFile target(to);
  target.reserve(base.size());
  target.append(base.header_bytes());
  int64_t at = base.header().data_begin;
  for (const TrainedRange& range : ranges) {
    base.append_to(target, at, range.begin);
    const TrainedTensor& tensor = *trained.at(range.name);
    Hasher hasher;
    stream_converted(tensor, tensor.stored_dtype, [&](std::span<const std::byte> bytes) {
      hasher.update(bytes);
      target.append(bytes);
    });
    SUTOR_ASSERT(target.written() == range.end);
    digests[range.name] = hasher.digest();
    at = range.end;
  }
  base.append_to(target, at, base.size());
  target.finish();
}

}  // namespace

std::map<std::string, Digest> export_merged(const ModelDirectory& base, const TensorMap& model,
                                            std::vector<TrainedTensor> trained,
                                            const fs::path& directory, const ExportOrigin& origin) {
  store_as_base(trained, base, model);
  std::map<std::string, const TrainedTensor*> by_name;
  std::vector<std::string> names;
  for (const TrainedTensor& tensor : trained) {
    const bool fresh = by_name.emplace(tensor.name, &tensor).second;
    SUTOR_ASSERT(fresh);
    names.push_back(tensor.name);
  }
  const auto ranges = trained_ranges(base, model, names);
  StagedDirectory staged(directory);
  std::map<std::string, Digest> digests;
  for (size_t i = 0; i < base.shards().size(); ++i) {
    const ModelShard& shard = *base.shards()[i];
    write_shard(shard, ranges[i], by_name, staged.path() / shard.name(), digests);
  }
  for (const fs::path& file : copied_files(base, !trained.empty())) {
    copy_whole(base.files_root() / file, staged.path() / file);
  }
  if (!trained.empty()) {
    nlohmann::json info = {{"format_version", kFormatVersion},
                           {"base_digest", origin.base_digest},
                           {"provenance", origin.provenance},
                           {"tensors", nlohmann::json::object()}};
    for (const auto& [name, digest] : digests) info["tensors"][name] = digest.text();
    OutputFile file(staged.path() / kMergedInfoFile);
    file.append(info.dump(2) + "\n");
    file.finish();
  }
  staged.publish();
  return digests;
}

}  // namespace sutor
