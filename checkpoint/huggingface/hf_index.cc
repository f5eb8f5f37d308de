#include "checkpoint/huggingface/hf_index.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "csrc/base/error.h"
#include "csrc/base/text/json.h"

namespace sutor {
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

HfIndex read_hf_index(const std::filesystem::path& path) {
  const std::string text = read_file(path, kMaxIndexFileBytes);
  const auto refuse = [&](const std::string& reason) {
    fail(ErrorCode::kContradictoryShards, "{}: {}", path.string(), reason);
  };
  const ParsedJson parsed = parse_json(text);
  const nlohmann::json& json = parsed.value;
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    refuse("not a JSON object with a `weight_map`");
  }
  if (parsed.repeated_key) refuse(fmt::format("`{}` occurs twice", *parsed.repeated_key));
  HfIndex index;
  for (const auto& [name, file] : json["weight_map"].items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>())) {
      refuse(fmt::format("tensor `{}` should be in a file of the same directory, found {}", name,
                         file.dump()));
    }
    index.weight_map[name] = file.get<std::string>();
  }
  if (json.contains("metadata") && json["metadata"].is_object() &&
      json["metadata"].contains("total_size")) {
    index.total_size = json["metadata"]["total_size"].dump();
  }
  return index;
}

HfShardPlan plan_shards(const std::vector<SafetensorsDeclaration>& tensors, int64_t max_bytes) {
  std::vector<std::vector<SafetensorsDeclaration>> groups(1);
  int64_t group_bytes = 0;
  int64_t total_bytes = 0;
  for (const SafetensorsDeclaration& tensor : tensors) {
    const int64_t bytes = tensor.num_bytes();
    if (group_bytes + bytes > max_bytes && !groups.back().empty()) {
      groups.emplace_back();
      group_bytes = 0;
    }
    groups.back().push_back(tensor);
    group_bytes += bytes;
    total_bytes += bytes;
  }
  HfShardPlan plan;
  nlohmann::json weight_map = nlohmann::json::object();
  for (size_t i = 0; i < groups.size(); ++i) {
    HfShard shard;
    shard.file_name = groups.size() == 1
                          ? kSingleWeightsFile
                          : fmt::format("model-{:05d}-of-{:05d}.safetensors", i + 1, groups.size());
    for (const SafetensorsDeclaration& tensor : groups[i])
      weight_map[tensor.name] = shard.file_name;
    shard.tensors = std::move(groups[i]);
    sort_as_safetensors(shard.tensors);
    plan.shards.push_back(std::move(shard));
  }
  if (plan.shards.size() > 1) {
    const nlohmann::json index = {{"metadata", {{"total_size", total_bytes}}},
                                  {"weight_map", weight_map}};
    plan.index_json = index.dump(2) + "\n";
  }
  return plan;
}

int64_t parse_byte_size(const std::string& text, const std::string& option) {
  static const std::map<std::string, double> kUnits = {
      {"", 1},      {"B", 1},        {"KB", 1e3},        {"MB", 1e6},     {"GB", 1e9},
      {"TB", 1e12}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto unit = kUnits.find(std::string(end, text.data() + text.size()));
  const double bytes = unit == kUnits.end() ? 0 : number * unit->second;
  if (error != std::errc() || !(bytes >= 1) || bytes > 1e18) {
    fail(ErrorCode::kBadArgument, "{}: expected a size like 5GB, 500MB or 64MiB, found `{}`",
         option, text);
  }
  return static_cast<int64_t>(bytes);
}

}  // namespace sutor
