#include "checkpoint/huggingface/tensor_fit.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "csrc/base/error.h"

namespace sutor {
namespace {

using Names = std::vector<std::string>;

constexpr size_t kNamed = 3;
constexpr std::string_view kLayers = "model.layers.";

// What an unused tensor is, when it may be passed over.
struct Kind {
  std::string what, pattern;
};

std::vector<std::string_view> components(std::string_view name) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t dot = name.find('.');
    parts.push_back(name.substr(0, dot));
    if (dot == std::string_view::npos) return parts;
    name.remove_prefix(dot + 1);
  }
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// model.layers.3.self_attn.k_scale -> model.layers.*.self_attn.k_scale
std::string with_stars(std::string_view name) {
  std::string text;
  for (const std::string_view part : components(name)) {
    text += text.empty() ? "" : ".";
    text += is_number(part) ? "*" : part;
  }
  return text;
}

// N of `model.layers.N.`; nothing for other names.
std::optional<int64_t> layer_of(std::string_view name) {
  if (!name.starts_with(kLayers)) return std::nullopt;
  const std::string_view part = components(name)[2];
  int64_t layer = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), layer);
  if (error != std::errc() || end != part.data() + part.size()) return std::nullopt;
  return layer;
}

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> starts) {
  return std::any_of(starts.begin(), starts.end(),
                     [&](std::string_view start) { return text.starts_with(start); });
}

bool is_any(std::string_view text, std::initializer_list<std::string_view> these) {
  return std::find(these.begin(), these.end(), text) != these.end();
}

// Buffers that follow from config.json; releases of earlier years store them.
std::optional<Kind> rotary_buffer(std::string_view name) {
  const auto parts = components(name);
  if (!is_any(parts.back(), {"inv_freq", "original_inv_freq", "cos_cached", "sin_cached"})) {
    return std::nullopt;
  }
  if (parts.size() < 2 || parts[parts.size() - 2] != "rotary_emb") return std::nullopt;
  return Kind{"rotary buffers", with_stars(name)};
}

// Models are computed with activations and a key-value cache that are not quantised.
std::optional<Kind> activation_scale(std::string_view name) {
  const std::string_view last = components(name).back();
  const Kind kind{"scales of activations and of the key-value cache", with_stars(name)};
  // Of transformers' static FP8, and of fbgemm.
  if (is_any(last, {"activation_scale", "input_scale_ub"})) return kind;
  for (const std::string_view whose : {"input", "output", "k", "v", "q", "prob"}) {
    for (const std::string_view which : {"_scale", "_global_scale", "_zero_point"}) {
      if (last == std::string(whose) + std::string(which)) return kind;
    }
  }
  return std::nullopt;
}

std::optional<Kind> tower(std::string_view name) {
  auto parts = components(name);
  const bool in_model = parts.size() > 2 && parts[0] == "model";
  const std::string_view module = parts[in_model ? 1 : 0];
  if (!starts_with_any(module, {"vision", "visual", "image", "video", "audio", "speech",
                                "multi_modal", "multimodal", "mm_"})) {
    return std::nullopt;
  }
  return Kind{"towers for images and sound",
              fmt::format("{}{}.*", in_model ? "model." : "", module)};
}

// Which stored tensors may go unread.
class Judge {
 public:
  Judge(const ModelDirectory& directory, const TensorMap& model) : directory_(directory) {
    for (const TensorEntry& tensor : model.entries()) {
      layers_ = std::max<int64_t>(layers_, tensor.layer + 1);
    }
    tied_ = model.find("lm_head.weight") == nullptr;
    predicted_ = promised_layers();
    note_used(model);
  }

  std::optional<Kind> harmless(const std::string& name) const {
    if (const auto kind = rotary_buffer(name)) return kind;
    if (const auto kind = activation_scale(name)) return kind;
    if (const auto kind = prediction_layer(name)) return kind;
    if (const auto kind = tower(name)) return kind;
    if (tied_ && name == "lm_head.weight") {
      return Kind{"a head that is tied to the embedding", name};
    }
    if (is_of_used_module(name)) return std::nullopt;
    return Kind{"modules that a causal language model does not have",
                name.find('.') == std::string::npos ? name : name.substr(0, name.find('.')) + ".*"};
  }

  bool is_behind_last_layer(const std::string& name) const {
    return layer_of(name).value_or(-1) >= layers_;
  }
  int64_t layers() const { return layers_; }

 private:
  // Layers behind the last that config.json announces.
  int64_t promised_layers() const {
    int64_t most = 0;
    for (const char* key : {"num_nextn_predict_layers", "num_mtp_layers", "num_mtp_modules",
                            "mtp_num_hidden_layers"}) {
      const auto at = directory_.config().find(key);
      if (at == directory_.config().end() || !at->is_number_integer()) continue;
      most = std::max(most, at->get<int64_t>());
    }
    return most;
  }

  std::optional<Kind> prediction_layer(const std::string& name) const {
    constexpr const char* kWhat = "layers for multi-token prediction";
    const auto parts = components(name);
    const size_t first = parts.size() > 1 && parts[0] == "model" ? 1 : 0;
    if (parts[first].starts_with("mtp")) {
      return Kind{kWhat, fmt::format("{}{}.*", first == 1 ? "model." : "", parts[first])};
    }
    const std::optional<int64_t> layer = layer_of(name);
    if (!layer || *layer < layers_) return std::nullopt;
    if (*layer >= layers_ + predicted_ && !looks_like_prediction(*layer)) return std::nullopt;
    return Kind{kWhat, fmt::format("{}{}.*", kLayers, *layer)};
  }

  // Whether the layer has what joins the last hidden state and the next token's embedding.
  bool looks_like_prediction(int64_t layer) const {
    const std::string prefix = std::string(kLayers) + std::to_string(layer);
    return directory_.find(prefix + ".eh_proj.weight") || directory_.find(prefix + ".enorm.weight");
  }

  void note_used(const TensorMap& model) {
    for (const TensorEntry& tensor : model.entries()) {
      const auto found = directory_.resolve(tensor);
      if (!found) continue;
      std::string_view module = found->stored.entry->name;
      used_.insert(module);
      while (module.rfind('.') != std::string_view::npos) {
        module = module.substr(0, module.rfind('.'));
        if (!used_modules_.insert(module).second) break;  // those above it are there as well
      }
    }
  }

  bool is_of_used_module(std::string_view name) const {
    for (std::string_view above = name; above.rfind('.') != std::string_view::npos;) {
      above = above.substr(0, above.rfind('.'));
      if (used_modules_.contains(above)) return true;
    }
    // A second copy behind a prefix: `module.` before all that follows.
    for (size_t dot = name.find('.'); dot != std::string_view::npos;
         dot = name.find('.', dot + 1)) {
      if (used_.contains(name.substr(dot + 1))) return true;
    }
    return false;
  }

  const ModelDirectory& directory_;
  int64_t layers_ = 0, predicted_ = 0;
  bool tied_ = false;
  std::set<std::string_view> used_, used_modules_;  // views of the directory's names
};

std::string named(const Names& names) {
  const size_t count = std::min(kNamed, names.size());
  return fmt::format("`{}`{}", fmt::join(names.begin(), names.begin() + count, "`, `"),
                     names.size() > count ? fmt::format(" and {} more", names.size() - count) : "");
}

void refuse_doubles(const ModelDirectory& directory, const TensorMap& model) {
  for (const TensorEntry& tensor : model.entries()) {
    const Names forms = directory.stored_forms(tensor);
    if (forms.size() < 2) continue;
    fail(ErrorCode::kUnusedTensor,
         "{}: tensor `{}` is stored twice, as `{}` and as `{}`, and nothing says which one counts. "
         "Remove the files of one of the two forms from the folder and from its index.",
         directory.path().string(), tensor.name, forms[0], forms[1]);
  }
}

[[noreturn]] void refuse(const ModelDirectory& directory, const Judge& judge, const Names& unused) {
  Names behind;
  std::copy_if(unused.begin(), unused.end(), std::back_inserter(behind),
               [&](const std::string& name) { return judge.is_behind_last_layer(name); });
  const std::string path = directory.path().string();
  if (!behind.empty()) {
    fail(ErrorCode::kUnusedTensor,
         "{}: config.json says num_hidden_layers {}, but there are tensors of layers behind them: "
         "{}. They are no layers for multi-token prediction: config.json announces none "
         "(num_nextn_predict_layers), and they have no eh_proj. Is config.json that of these "
         "weights?",
         path, judge.layers(), named(behind));
  }
  fail(ErrorCode::kUnusedTensor,
       "{}: {} tensor{} belong{} to modules of the model, but nothing is computed from {}: {}. "
       "Without {} it would be another model. Is config.json that of these weights (a bias, for "
       "example, needs its flag), and are they in a form that sutor reads?",
       path, unused.size(), unused.size() == 1 ? "" : "s", unused.size() == 1 ? "s" : "",
       unused.size() == 1 ? "it" : "them", named(unused), unused.size() == 1 ? "it" : "them");
}

}  // namespace

std::vector<IgnoredTensors> check_unused_tensors(const ModelDirectory& directory,
                                                 const TensorMap& model) {
  refuse_doubles(directory, model);
  const Judge judge(directory, model);
  std::map<std::pair<std::string, std::string>, int64_t> ignored;
  Names refused;
  for (const std::string& name : directory.unexpected(model)) {
    if (const std::optional<Kind> kind = judge.harmless(name)) {
      ++ignored[{kind->what, kind->pattern}];
    } else {
      refused.push_back(name);
    }
  }
  if (!refused.empty()) refuse(directory, judge, refused);
  std::vector<IgnoredTensors> result;
  for (const auto& [key, count] : ignored) result.push_back({key.first, key.second, count});
  return result;
}

std::string ignored_text(const std::vector<IgnoredTensors>& ignored) {
  constexpr size_t kPatterns = 4;
  std::map<std::string, std::pair<int64_t, Names>> kinds;
  for (const IgnoredTensors& each : ignored) {
    kinds[each.what].first += each.count;
    kinds[each.what].second.push_back(each.pattern);
  }
  std::string text;
  for (const auto& [what, found] : kinds) {
    const auto& [count, patterns] = found;
    const size_t shown = std::min(kPatterns, patterns.size());
    text += fmt::format(
        "{}{}{} of {} ({}{})", text.empty() ? "" : "; ", count,
        !text.empty() ? ""
        : count == 1  ? " tensor"
                      : " tensors",
        what, fmt::join(patterns.begin(), patterns.begin() + shown, ", "),
        patterns.size() > shown ? fmt::format(" and {} more", patterns.size() - shown) : "");
  }
  return text;
}

std::string misnamed_cause(const ModelDirectory& directory, const Names& missing) {
  constexpr std::string_view kWrappers[] = {
      "module",     "_orig_mod",  "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
      "base_layer", "base_model", "language_model"};
  // For each stored name: how it ends, behind any prefix, and what it is without wrappers.
  std::map<std::string, std::string, std::less<>> endings, unwrapped;
  for (const auto& [name, stored] : directory.tensors()) {
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      endings.emplace(name.substr(dot + 1), name.substr(0, dot + 1));
    }
    std::string bare, first;
    for (const std::string_view part : components(name)) {
      const bool wraps =
          std::find(std::begin(kWrappers), std::end(kWrappers), part) != std::end(kWrappers);
      if (wraps && first.empty()) first = part;
      if (!wraps) bare += (bare.empty() ? "" : ".") + std::string(part);
    }
    if (!first.empty()) unwrapped.emplace(bare, first);
  }
  std::map<std::string, size_t> causes;
  for (const std::string& name : missing) {
    if (const auto at = endings.find(name); at != endings.end()) {
      ++causes[fmt::format("Their names have the prefix `{}`", at->second)];
    } else if (const auto wrapped = unwrapped.find(name); wrapped != unwrapped.end()) {
      ++causes[fmt::format("Their names have a wrapper's `{}.` in them", wrapped->second)];
    } else if (name.starts_with("model.") && directory.find(name.substr(6))) {
      ++causes["Their names lack the prefix `model.`"];
    }
  }
  const auto most =
      std::max_element(causes.begin(), causes.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == causes.end() || most->second * 2 < missing.size()) return "";
  return most->first +
         ": the model was saved from inside something that wraps it (or without the "
         "head). Save it again from the model itself, or rename the tensors.";
}

}  // namespace sutor
