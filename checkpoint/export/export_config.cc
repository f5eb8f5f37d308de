#include "checkpoint/export/export_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/huggingface/end_tokens.h"
#include "checkpoint/huggingface/hf_index.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

using Json = nlohmann::ordered_json;  // keys stay where they are

Json parse(const std::filesystem::path& path, ErrorCode code) {
  const std::string text = read_file(path, kMaxIndexFileBytes);
  // Bounded first: this form of JSON is parsed without bounds.
  if (!parse_json(text).value.is_object()) fail(code, "{} is not a JSON object", path.string());
  return Json::parse(text);
}

// The object that has the quantization_config and its key there; nullptr when there is none.
std::pair<Json*, std::string> quantization_of(Json& config) {
  for (Json* holder :
       {&config, config.contains("text_config") ? &config["text_config"] : nullptr}) {
    if (!holder || !holder->is_object()) continue;
    for (const char* key : {"quantization_config", "compression_config"}) {
      if (holder->contains(key) && (*holder)[key].is_object()) return {holder, key};
    }
  }
  return {nullptr, ""};
}

// The list of modules that are not quantised, under the name that the config has for it. Without a
// list transformers leaves only the head unquantised, with a list only the modules on it.
Json& plain_modules(Json& quantization, bool by_groups) {
  if (by_groups) {
    Json& ignored = quantization["ignore"];
    if (!ignored.is_array()) ignored = Json::array();
    return ignored;
  }
  for (const char* key : {"modules_to_not_convert", "ignored_layers"}) {
    const auto found = quantization.find(key);
    if (found != quantization.end() && found->is_array()) return *found;
  }
  return quantization["modules_to_not_convert"] = Json::array({"lm_head"});
}

// A module as `ignore` of compressed-tensors names it: all experts of a layer are one module for
// some readers, and several for others.
std::string ignore_entry(const std::string& module) {
  if (!module.ends_with(".experts")) return module;
  std::string pattern = "re:";
  for (const char letter : module) pattern += letter == '.' ? "[.]" : std::string(1, letter);
  return pattern + "([.].*)?$";
}

std::string config_text(const ModelDirectory& base, const ExportPlan& plan) {
  Json config = parse(base.files_root() / "config.json", ErrorCode::kNoModel);
  const auto [holder, key] = quantization_of(config);
  if (holder && !plan.still_quantized) {
    holder->erase(key);
  } else if (holder) {
    const bool by_groups = base.quantization().method() == "compressed-tensors";
    Json& modules = plain_modules((*holder)[key], by_groups);
    for (const std::string& module : plan.dequantized_modules) {
      const std::string name = by_groups ? ignore_entry(module) : module;
      if (std::find(modules.begin(), modules.end(), name) == modules.end()) {
        modules.push_back(name);
      }
    }
  }
  return config.dump(2) + "\n";
}

std::string index_text(const ModelDirectory& base, const ExportPlan& plan) {
  Json index = parse(base.files_root() / kIndexFile, ErrorCode::kContradictoryShards);
  std::map<std::string, std::string> new_names;
  int64_t total = 0;
  for (const OutputShard& shard : plan.shards) {
    for (const OutputTensor& tensor : shard.tensors) {
      new_names[tensor.base.entry->name] = tensor.name;
      total += tensor.slices.back().end;
    }
  }
  Json weight_map = Json::object();
  for (const auto& [name, file] : index["weight_map"].items()) {
    const auto found = new_names.find(name);
    if (found != new_names.end()) weight_map[found->second] = file;
  }
  index["weight_map"] = std::move(weight_map);
  if (index.contains("metadata") && index["metadata"].contains("total_size")) {
    index["metadata"]["total_size"] = total;
  }
  return index.dump(2) + "\n";
}

}  // namespace

std::map<std::string, std::string> rewritten_files(const ModelDirectory& base,
                                                   const ExportPlan& plan,
                                                   const std::set<int64_t>& end_tokens) {
  std::map<std::string, std::string> files;
  if (const auto text = generation_config_with(base, end_tokens)) {
    files[kGenerationConfigFile] = *text;
  }
  if (!plan.new_headers()) return files;
  files["config.json"] = config_text(base, plan);
  const bool is_single =
      base.shards().size() == 1 && base.shards()[0]->name() == kSingleWeightsFile;
  if (!is_single && base.other_files().count(kIndexFile)) {
    files[kIndexFile] = index_text(base, plan);
  }
  return files;
}

}  // namespace sutor
