// Families by name, from the list in families.h.
#include "csrc/base/error.h"
#include "layers/models/families.h"

namespace sutor {
namespace {

std::string known_names() {
  std::string names;
  for (const Family& family : families()) {
    names += (names.empty() ? "" : ", ") + std::string(family.name);
  }
  return names;
}

}  // namespace

const std::vector<Family>& families() {
#define SUTOR_LISTED_FAMILY(name) name##_family(),
  static const std::vector<Family> all = {SUTOR_FAMILIES(SUTOR_LISTED_FAMILY)};
#undef SUTOR_LISTED_FAMILY
  return all;
}

const Family& family_named(std::string_view name) {
  for (const Family& family : families()) {
    if (family.name == name) return family;
  }
  fail(ErrorCode::kUnknownFamily, "no model family `{}`. Known families: {}.", name, known_names());
}

const Family& family_of(const nlohmann::json& config) {
  if (!config.is_object() || !config.contains("model_type") || !config["model_type"].is_string()) {
    fail(ErrorCode::kUnknownFamily,
         "config.json has no `model_type`, so the model family is not known. Known: {}.",
         known_names());
  }
  return family_named(config["model_type"].get<std::string>());
}

}  // namespace sutor
