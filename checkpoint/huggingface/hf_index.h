// How Hugging Face shards a model over files: names of the shards, model.safetensors.index.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "csrc/base/safetensors.h"

namespace sutor {

constexpr const char* kSingleWeightsFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
// What the index of a model may have: that of a million tensors, and no more.
constexpr int64_t kMaxIndexFileBytes = int64_t{256} << 20;
constexpr int64_t kDefaultShardBytes = 5'000'000'000;  // the default of transformers

struct HfIndex {
  std::map<std::string, std::string> weight_map;  // tensor -> plain file name
  // As written, JSON; empty when there is none. Should be the bytes of all tensors, but nothing
  // reads it.
  std::string total_size;
};

// Throws E0304 naming file and key: not JSON, no weight_map, a tensor listed twice, a file name
// that is not a plain name in the same directory.
HfIndex read_hf_index(const std::filesystem::path& path);

// Whether a name is that of a file in a directory: not empty, not `.` or `..`, without slash and
// zero byte.
bool is_plain_name(const std::string& name);

struct HfShard {
  std::string file_name;
  std::vector<SafetensorsDeclaration> tensors;  // in the order in which they have to be written
};

struct HfShardPlan {
  std::vector<HfShard> shards;
  std::string index_json;  // empty for a single file, which has no index
};

// Fills one shard after the other in the given order, none larger than `max_bytes` unless a single
// tensor is. Inside a shard the tensors have the order of the Python library.
HfShardPlan plan_shards(const std::vector<SafetensorsDeclaration>& tensors, int64_t max_bytes);

// "500MB", "5GB" (powers of 1000), "64MiB" (powers of 1024) or a number of bytes. Throws E0202
// naming `option`.
int64_t parse_byte_size(const std::string& text, const std::string& option);

}  // namespace sutor
