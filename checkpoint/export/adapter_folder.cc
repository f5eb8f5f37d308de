#include "checkpoint/export/adapter_folder.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "checkpoint/export/adapter.h"
#include "checkpoint/huggingface/model_shard.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{16} << 20;

// The number behind `part` in a name; -1 without one.
int number_behind(const std::string& name, std::string_view part) {
  const size_t at = name.find(part);
  if (at == std::string::npos) return -1;
  int number = -1;
  const char* const begin = name.data() + at + part.size();
  const auto [end, error] = std::from_chars(begin, name.data() + name.size(), number);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' ? number : -1;
}

bool is_counted(const std::set<int>& numbers, int count) {
  return static_cast<int>(numbers.size()) == count &&
         (count == 0 || (*numbers.begin() == 0 && *numbers.rbegin() == count - 1));
}

int64_t layers_of(const fs::path& config) {
  const nlohmann::json json = parse_json(read_file(config, kMaxConfigBytes)).value;
  const auto at = json.is_object() ? json.find("num_hidden_layers") : json.end();
  return at != json.end() && at->is_number_integer() ? at->get<int64_t>() : -1;
}

// Whether the tensors are those of a model: the embedding, every layer, and of each layer with
// routed experts all of them. A folder that cannot be read holds no model.
bool holds_model(const fs::path& path) {
  bool embedding = false;
  std::set<int> layers;
  std::map<int, std::set<int>> experts;
  try {
    for (const fs::path& file : entries_of(path)) {
      if (file.extension() != ".safetensors") continue;
      const SafetensorsShard shard(file);
      for (const SafetensorsEntry& entry : shard.tensors()) {
        embedding |= entry.name.find("embed_tokens.") != std::string::npos;
        const int layer = number_behind(entry.name, "layers.");
        if (layer < 0) continue;
        layers.insert(layer);
        const int expert = number_behind(entry.name, ".experts.");
        if (expert >= 0) experts[layer].insert(expert);
      }
    }
    if (const int64_t count = layers_of(path / "config.json");
        count > static_cast<int64_t>(layers.size())) {
      return false;
    }
  } catch (const Error&) {
    return false;
  }
  size_t most = 0;
  for (const auto& [layer, ids] : experts) most = std::max(most, ids.size());
  const bool all_experts = std::all_of(experts.begin(), experts.end(), [&](const auto& layer) {
    return is_counted(layer.second, static_cast<int>(most));
  });
  return embedding && all_experts && is_counted(layers, static_cast<int>(layers.size()));
}

}  // namespace

bool is_adapter(const fs::path& path) {
  if (!is_there(path / kExpertConfigFile)) return false;
  return !is_there(path / "config.json") || !holds_model(path);
}

std::vector<fs::path> files_beside(const fs::path& adapter) {
  std::vector<fs::path> others;
  for (const fs::path& entry : entries_of(adapter)) {
    const std::string name = entry.filename().string();
    if (entry.extension() == ".safetensors" || name == kExpertConfigFile ||
        name == kAdapterInfoFile || name == kIndexFile) {
      continue;
    }
    others.push_back(entry);
  }
  return others;
}

std::vector<std::string> trainer_checkpoints(const fs::path& output) {
  std::vector<std::string> names;
  for (const fs::path& entry : entries_of(output)) {
    const std::string name = entry.filename().string();
    const bool named = name.starts_with("checkpoint-") || name == "last_checkpoint";
    if (named && is_folder(entry)) names.push_back(name);
  }
  return names;
}

std::string global_adapter_name(const std::string& name) {
  for (const char* start : {"layers.", "embed_tokens.", "norm."}) {
    if (name.starts_with(start)) return "model." + name;
  }
  return name;
}

}  // namespace sutor
