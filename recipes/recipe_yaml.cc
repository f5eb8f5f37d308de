// Flattens YAML nodes to recipe keys.
#include "recipes/recipe_yaml.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/text/text.h"
#include "recipes/key_suggestion.h"
#include "recipes/recipe_file.h"
#include "recipes/recipe_schema.h"
#include "recipes/recipe_values.h"

namespace sutor {
namespace {

constexpr size_t kMaxValue = size_t{64} << 10;  // bytes of a text with its variables replaced

// Replaces ${NAME} in a text, and ${NAME:-TEXT} by TEXT where the variable is not set or empty.
// `where` is for the error.
std::string expand(const std::string& text, const std::string& where) {
  std::string result;
  size_t at = 0;
  while (true) {
    const size_t begin = text.find("${", at);
    const size_t end = begin == std::string::npos ? begin : text.find('}', begin);
    if (end == std::string::npos) return result.append(text, at);
    std::string name = text.substr(begin + 2, end - begin - 2), otherwise;
    const size_t dash = name.find(":-");
    if (dash != std::string::npos) {
      otherwise = name.substr(dash + 2);
      name.resize(dash);
    }
    const char* value = std::getenv(name.c_str());
    if (dash != std::string::npos && (!value || *value == '\0')) value = otherwise.c_str();
    if (!value) {
      fail(ErrorCode::kUnsetVariable,
           "{}: the environment variable {} of `{}` is not set (`${{{}:-TEXT}}` has a default)",
           where, name, text, name);
    }
    result.append(text, at, begin - at).append(value);
    if (result.size() > kMaxValue) {
      fail(ErrorCode::kBadValue,
           "{}: with its variables replaced, the value has more than {} bytes", where, kMaxValue);
    }
    if (first_not_utf8(result) < result.size()) {
      fail(ErrorCode::kBadValue, "{}: the environment variable {} is not text in UTF-8", where,
           name);
    }
    at = end + 1;
  }
}

// A value is a text or a list of texts; lists in a list, which may stand for many more by their
// aliases, are left for the reader of the value to refuse.
YAML::Node expand(const YAML::Node& node, const std::string& where) {
  if (node.IsSequence()) {
    YAML::Node list(YAML::NodeType::Sequence);
    for (const YAML::Node& item : node) {
      list.push_back(item.IsScalar() ? expand(item, where) : item);
    }
    return list;
  }
  if (!node.IsScalar() || node.Scalar().find("${") == std::string::npos) return node;
  YAML::Node result(expand(node.Scalar(), where));
  result.SetTag(node.Tag());
  return result;
}

// Adds the keys of YAML trees to RecipeValues.
class Walker {
 public:
  // `set`: where the values are from that have no file: "--set optim".
  Walker(RecipeValues& values, std::string file, std::string set = "")
      : values_(values), file_(std::move(file)), set_(std::move(set)) {}

  // A whole mapping whose keys start with `prefix` ("" or "esft.").
  void map(const YAML::Node& node, const std::string& prefix) {
    std::map<std::string, std::string> seen;
    for (const auto& item : node) {
      const std::string key_at = position(item.first);
      if (!item.first.IsScalar()) {
        fail(ErrorCode::kBadValue, "{}: expected a key, got {}", key_at, describe(item.first));
      }
      const std::string name = prefix + item.first.Scalar();
      const auto [first, is_new] = seen.emplace(name, key_at);
      if (!is_new) {
        fail(ErrorCode::kRepeatedKey, "{}: key `{}` is written twice (first at {})", key_at, name,
             first->second);
      }
      if (name != "base") place(name, item.second, key_at);
    }
  }

  // The value of one key, section or list.
  void place(const std::string& name, const YAML::Node& node, const std::string& key_at) {
    const std::string at = node.IsNull() || node.Mark().is_null() ? key_at : position(node, key_at);
    if (const std::optional<SourceKey> source = parse_source_key(name)) {
      source_item(name, *source, node, key_at, at);
    } else if (is_source_list(name)) {
      source_list(name, node, at);
    } else if (find_field(name)) {
      if (node.IsMap()) fail(ErrorCode::kBadValue, "{}: `{}` is a value, got a mapping", at, name);
      values_[name] = {expand(node, at), at};
    } else if (is_section(name)) {
      // A recipe may take back what its base turned on.
      if (node.IsNull() && name == "log.wandb") values_["log.wandb.project"] = {node, at};
      if (node.IsNull() && name == "train.early_stop") values_[name + ".metric"] = {node, at};
      if (node.IsNull()) return;
      if (!node.IsMap()) {
        fail(ErrorCode::kBadValue, "{}: `{}` is a section with the keys {}; got {}", at, name,
             fmt::join(keys_under(name), ", "), describe(node));
      }
      map(node, name + ".");
    } else {
      fail(ErrorCode::kUnknownKey, "{}: unknown key `{}` ({})", key_at, name, suggestion(name));
    }
  }

 private:
  std::string position(const YAML::Node& node, const std::string& otherwise = "") const {
    if (file_.empty()) return otherwise.empty() ? set_ : otherwise;
    return fmt::format("{}:{}:{}", file_, node.Mark().line + 1, node.Mark().column + 1);
  }

  void source_list(const std::string& name, const YAML::Node& node, const std::string& at) {
    const auto clear = [&] {
      std::erase_if(values_, [&](const auto& item) { return item.first.starts_with(name + "["); });
    };
    if (name == "data.eval" && node.IsScalar()) {  // short for [{share: 5%}]
      clear();
      values_[name + "[0].share"] = {expand(node, at), at};
      return;
    }
    if (!node.IsSequence()) {
      fail(ErrorCode::kBadValue, "{}: `{}` is a list like [{{path: rows.jsonl}}]; got {}", at, name,
           describe(node));
    }
    clear();
    for (size_t i = 0; i < node.size(); ++i) {
      const std::string item = fmt::format("{}[{}]", name, i);
      const std::string item_at = position(node[i], at);
      if (!node[i].IsMap()) {
        fail(ErrorCode::kBadValue, "{}: an item of `{}` is a mapping with the keys {}; got {}",
             item_at, name, fmt::join(source_keys(name), ", "), describe(node[i]));
      }
      map(node[i], item + ".");
    }
  }

  // data.train[N] as a whole, or data.train[N].key.
  void source_item(const std::string& name, const SourceKey& source, const YAML::Node& node,
                   const std::string& key_at, const std::string& at) {
    const auto& [list, index, key] = source;
    const std::string item = fmt::format("{}[{}]", list, index);
    const auto is_set = [this, &list = list, &index = index](const char* of) {
      return values_.count(fmt::format("{}[{}].{}", list, index - 1, of)) > 0;
    };
    if (index > 0 && !is_set("path") && !is_set("share")) {
      fail(ErrorCode::kBadValue, "{}: `{}` has no item {} before it", key_at, item, index - 1);
    }
    if (key.empty()) {
      if (!node.IsMap()) {
        fail(ErrorCode::kBadValue, "{}: `{}` is a mapping, got {}", at, item, describe(node));
      }
      std::erase_if(values_, [&](const auto& each) { return each.first.starts_with(item + "."); });
      return map(node, item + ".");
    }
    const std::vector<std::string>& keys = source_keys(list);
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      fail(ErrorCode::kUnknownKey, "{}: unknown key `{}` ({})", key_at, name, suggestion(name));
    }
    values_[item + "." + key] = {expand(node, at), at};
  }

  RecipeValues& values_;
  std::string file_;  // "" for --set
  std::string set_;
};

constexpr size_t kMaxChain = 32;  // recipes that inherit from each other

// Reads what `path` inherits, then its own keys, which take precedence.
void read_file_values(const std::filesystem::path& path, std::vector<std::filesystem::path> chain,
                      RecipeValues& values) {
  const YAML::Node root = load_recipe(path);
  chain.push_back(real_path(path));
  for (const auto& item : root) {
    if (!item.first.IsScalar() || item.first.Scalar() != "base") continue;
    const YAML::Mark mark = item.second.Mark();
    const std::string at = fmt::format("{}:{}:{}", path.string(), mark.line + 1, mark.column + 1);
    if (!item.second.IsScalar()) {
      fail(ErrorCode::kBadValue, "{}: `base` is the path of another recipe, got {}", at,
           describe(item.second));
    }
    const std::filesystem::path base = path.parent_path() / expand(item.second.Scalar(), at);
    if (const std::string objection = file_objection(base); !objection.empty()) {
      fail(ErrorCode::kUnreadableRecipe, "{}: base recipe {} {}", at, base.string(), objection);
    }
    if (std::find(chain.begin(), chain.end(), real_path(base)) != chain.end()) {
      std::vector<std::string> names;
      for (const auto& link : chain) names.push_back(link.filename().string());
      fail(ErrorCode::kCircularBase, "{}: `base` goes round in a circle: {} -> {}", at,
           fmt::join(names, " -> "), base.filename().string());
    }
    if (chain.size() == kMaxChain) {
      fail(ErrorCode::kUnreadableRecipe, "{}: more than {} recipes inherit from each other", at,
           kMaxChain);
    }
    read_file_values(base, chain, values);
  }
  Walker(values, path.string()).map(root, "");
}

void apply_set(const std::string& set, RecipeValues& values) {
  const size_t equals = set.find('=');
  if (equals == std::string::npos || equals == 0) {
    fail(ErrorCode::kBadValue, "--set {}: expected key=value, for example --set optim.lr=1e-4",
         set);
  }
  const std::string key = set.substr(0, equals);
  const std::string where = "--set " + key;
  const YAML::Node node = parse_yaml(set.substr(equals + 1), where);
  Walker(values, "", where).place(key, node, where);
}

}  // namespace

RecipeValues read_recipe_values(const std::filesystem::path& path,
                                const std::vector<std::string>& sets) {
  RecipeValues values;
  read_file_values(path, {}, values);
  for (const std::string& set : sets) apply_set(set, values);
  return values;
}

RecipeValues recipe_values_of(const std::vector<std::string>& sets) {
  RecipeValues values;
  for (const std::string& set : sets) apply_set(set, values);
  return values;
}

}  // namespace sutor
