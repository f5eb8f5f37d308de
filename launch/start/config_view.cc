#include "launch/start/config_view.h"

#include <fmt/format.h>

#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "csrc/base/text/json.h"
#include "recipes/key_meanings.h"
#include "recipes/recipe_reader.h"
#include "recipes/recipe_schema.h"
#include "recipes/recipe_values.h"

namespace sutor {
namespace {

using nlohmann::ordered_json;

struct ModelView {
  std::string family;
  std::vector<ModelValue> values;
  std::string problem;  // why there are none
};

ModelView view_of(const Recipe& recipe) {
  try {
    const ParsedJson config = parse_json(read_model_config(recipe.model.path));
    if (!config.value.is_object()) {
      return {.problem = recipe.model.path + ": config.json is no JSON object"};
    }
    ModelView view{.values = model_values(config.value, recipe)};
    view.family = config.value["model_type"].get<std::string>();
    return view;
  } catch (const Error& error) {
    return {.problem = fmt::format("{}: {}", error.code(), error.what())};
  }
}

ordered_json as_json(const YAML::Node& node) {
  if (node.IsSequence()) {
    ordered_json list = ordered_json::array();
    for (const YAML::Node& item : node) list.push_back(as_json(item));
    return list;
  }
  if (node.IsMap()) {
    ordered_json object = ordered_json::object();
    for (const auto& item : node) object[item.first.Scalar()] = as_json(item.second);
    return object;
  }
  if (!node.IsScalar()) return nullptr;
  if (const auto flag = values::parse_boolean(node)) return *flag;
  if (const auto whole = values::parse_number<int64_t>(node)) return *whole;
  if (const auto number = values::parse_number<double>(node)) return *number;
  return node.Scalar();
}

std::string origin_of(const Recipe& recipe, const std::string& key) {
  const auto origin = recipe.origins.find(key);
  return origin == recipe.origins.end() ? "default" : origin->second;
}

}  // namespace

std::string config_text(const Recipe& recipe) {
  std::string text = resolved_yaml(recipe);
  const ModelView model = view_of(recipe);
  if (!model.problem.empty()) {
    return text + fmt::format("\n# What the model's config.json decides cannot be said:\n# {}\n",
                              model.problem);
  }
  text += fmt::format("\n# What config.json of {} ({}) decides in this run:\n", recipe.model.path,
                      model.family);
  for (const ModelValue& value : model.values) {
    text += fmt::format("#   {:<42} # {}; {}\n", value.key + ": " + value.value, value.origin,
                        value.effect);
  }
  return text;
}

ordered_json config_json(const Recipe& given) {
  Recipe recipe = given;
  ordered_json values = ordered_json::array();
  const auto add = [&](const std::string& key, const std::string& general, ordered_json value) {
    const KeyMeaning* meaning = find_meaning(general);
    SUTOR_ASSERT(meaning != nullptr);
    values.push_back({{"key", key},
                      {"value", std::move(value)},
                      {"origin", origin_of(recipe, key)},
                      {"unit", meaning->unit},
                      {"meaning", meaning->meaning}});
  };
  const YAML::Node all = YAML::Load(resolved_yaml(recipe));
  for (const char* list : {"train", "eval"}) {
    const YAML::Node sources = all["data"][list];
    for (size_t i = 0; i < sources.size(); ++i) {
      for (const auto& item : sources[i]) {
        const std::string name = item.first.Scalar();
        add(fmt::format("data.{}[{}].{}", list, i, name), fmt::format("data.{}[].{}", list, name),
            as_json(item.second));
      }
    }
  }
  for (const Field& field : recipe_fields()) {
    add(field.key, field.key, as_json(YAML::Load(field.show(recipe))));
  }
  const ModelView view = view_of(recipe);
  ordered_json model = {{"path", recipe.model.path}};
  if (view.problem.empty()) {
    model["family"] = view.family;
    model["values"] = ordered_json::array();
    for (const ModelValue& value : view.values) {
      model["values"].push_back({{"key", value.key},
                                 {"value", parse_json(value.value).value},
                                 {"origin", value.origin},
                                 {"effect", value.effect}});
    }
  } else {
    model["problem"] = view.problem;
  }
  return {{"recipe", recipe.file}, {"values", values}, {"model", model}};
}

}  // namespace sutor
