#include "checkpoint/export_plan.h"

#include <algorithm>

#include "checkpoint/hf_index.h"
#include "checkpoint/merged_export.h"
#include "csrc/base/error.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// Weights in a file that the model is not read from.
bool is_unused_weights(const fs::path& file, const ModelDirectory& base) {
  const std::string name = file.filename().string();
  const std::string extension = file.extension().string();
  for (const char* weights : {".safetensors", ".pt", ".pth", ".gguf", ".ckpt"}) {
    if (extension == weights) return true;
  }
  if (name.starts_with("pytorch_model")) return true;
  const bool is_single =
      base.shards().size() == 1 && base.shards()[0]->name() == kSingleWeightsFile;
  return is_single && name == kIndexFile;
}

}  // namespace

std::vector<std::vector<TrainedRange>> trained_ranges(const ModelDirectory& base,
                                                      const TensorMap& model,
                                                      const std::vector<std::string>& names) {
  std::vector<std::vector<TrainedRange>> ranges(base.shards().size());
  for (const std::string& name : names) {
    const TensorEntry* entry = model.find(name);
    const auto found = entry ? base.resolve(*entry) : std::nullopt;
    if (!found) {
      fail(301, "the base model {} has no tensor `{}`. Is it the model that was trained?",
           base.path().string(), name);
    }
    if (!found->contiguous()) {
      fail(307,
           "{}: `{}` is quantised, and trained values cannot take the place of it. Export an "
           "adapter, or train on a copy of the model in BF16.",
           found->stored.file->where(), found->stored.entry->name);
    }
    ranges[found->stored.shard].push_back({found->begin(), found->end(), name});
  }
  for (std::vector<TrainedRange>& shard : ranges) {
    std::sort(shard.begin(), shard.end(),
              [](const TrainedRange& a, const TrainedRange& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < shard.size(); ++i) SUTOR_ASSERT(shard[i - 1].end <= shard[i].begin);
  }
  return ranges;
}

std::set<fs::path> copied_files(const ModelDirectory& base, bool anything_trained) {
  std::set<fs::path> files = base.other_files();
  if (anything_trained) {
    std::erase_if(files, [&](const fs::path& file) {
      return is_unused_weights(file, base) || file == kMergedInfoFile;
    });
  }
  return files;
}

}  // namespace sutor
