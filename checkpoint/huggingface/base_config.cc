#include "checkpoint/huggingface/base_config.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "csrc/base/error.h"

namespace sutor {
namespace {

using nlohmann::json;

constexpr size_t kShownBytes = 80;

// Who wrote the file and with which class; in which dtype weights are stored, which their headers
// say; what to return, cache or initialise; where a text begins and ends.
constexpr std::string_view kMeaningless[] = {"_name_or_path",
                                             "architectures",
                                             "auto_map",
                                             "bos_token_id",
                                             "dtype",
                                             "eos_token_id",
                                             "id2label",
                                             "initializer_range",
                                             "label2id",
                                             "output_attentions",
                                             "pad_token_id",
                                             "output_hidden_states",
                                             "return_dict",
                                             "output_router_logits",
                                             "torch_dtype",
                                             "transformers_version",
                                             "_attn_implementation",
                                             "use_cache"};

std::string shown(const json& config, const std::string& key) {
  const auto at = config.find(key);
  if (at == config.end()) return "absent";
  std::string text = at->dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > kShownBytes) text.replace(kShownBytes, std::string::npos, "..");
  return text;
}

}  // namespace

json computing_config(const json& config) {
  json kept = json::object();
  for (const auto& [key, value] : config.items()) {
    if (std::find(std::begin(kMeaningless), std::end(kMeaningless), key) ==
        std::end(kMeaningless)) {
      kept[key] = value;
    }
  }
  return kept;
}

void check_base_config(const json& recorded, const json& config, const std::string& trained,
                       const std::string& base) {
  if (!recorded.is_object()) return;
  const json now = computing_config(config);
  if (recorded == now) return;
  std::set<std::string> keys;
  for (const json* each : {&recorded, &now}) {
    for (const auto& [key, value] : each->items()) keys.insert(key);
  }
  std::string differences;
  for (const std::string& key : keys) {
    const auto then = recorded.find(key), here = now.find(key);
    if (then != recorded.end() && here != now.end() && *then == *here) continue;
    differences +=
        fmt::format("\n  {}: then {}, now {}", key, shown(recorded, key), shown(now, key));
  }
  fail(ErrorCode::kOtherBase,
       "{} was trained on a base with another config.json than {} has now:{}\nGive the "
       "config.json that it was trained with, or train anew.",
       trained, base, differences);
}

}  // namespace sutor
