#include "checkpoint/huggingface/end_tokens.h"

#include <algorithm>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

using Json = nlohmann::ordered_json;  // keys stay where they are

constexpr int64_t kMaxFileBytes = int64_t{1} << 24;

// Null when there is none.
Json generation_config(const ModelDirectory& model) {
  const std::filesystem::path file = model.files_root() / kGenerationConfigFile;
  if (!is_there(file)) return nullptr;
  const std::string text = read_file(file, kMaxFileBytes);
  // Bounded first: this form of JSON is parsed without bounds.
  if (!parse_json(text).value.is_object()) {
    fail(ErrorCode::kBadModelConfig, "{} is not a JSON object", file.string());
  }
  return Json::parse(text);
}

}  // namespace

std::set<int64_t> end_tokens_of(const nlohmann::json& json, std::string_view key) {
  std::set<int64_t> ids;
  const auto at = json.find(key);
  if (at == json.end()) return ids;
  for (const nlohmann::json& id : at->is_array() ? *at : nlohmann::json::array({*at})) {
    if (id.is_number_integer()) ids.insert(id.get<int64_t>());
  }
  return ids;
}

std::set<int64_t> end_tokens(const ModelDirectory& model) {
  std::set<int64_t> ids = end_tokens_of(model.config());
  ids.merge(end_tokens_of(nlohmann::json(generation_config(model))));
  return ids;
}

std::optional<std::string> generation_config_with(const ModelDirectory& model,
                                                  const std::set<int64_t>& trained) {
  Json config = generation_config(model);
  const bool is_new = config.is_null();
  // Where the file names no end, that of config.json counts.
  std::set<int64_t> named = end_tokens_of(nlohmann::json(config));
  if (named.empty()) named = end_tokens_of(model.config());
  if (std::includes(named.begin(), named.end(), trained.begin(), trained.end())) return {};
  if (is_new) {
    config = Json::object();
    for (const char* key : {"bos_token_id", "pad_token_id"}) {
      const auto at = model.config().find(key);
      if (at != model.config().end() && !at->is_null()) config[key] = *at;
    }
  }
  // Those that were there stay in front: some programs take the first as padding.
  Json ids = Json::array();
  const Json given = config.value("eos_token_id", Json());
  for (const Json& id : given.is_array() ? given : Json::array({given})) {
    if (id.is_number_integer()) ids.push_back(id);
  }
  if (ids.empty()) ids = named;
  for (const int64_t id : trained) {
    if (!named.contains(id)) ids.push_back(id);
  }
  config["eos_token_id"] = std::move(ids);
  return config.dump(2) + "\n";
}

}  // namespace sutor
