#include "launch/steps/made_from.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sstream>

#include "checkpoint/huggingface/base_config.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/directory.h"
#include "csrc/base/file.h"
#include "csrc/base/hash.h"
#include "csrc/base/text/json.h"
#include "recipes/data_sets.h"
#include "recipes/recipe_steps.h"

namespace sutor {
namespace {

constexpr size_t kDigitsShown = 12;

std::string shown(const std::string& value) {
  const size_t colon = value.find(':');
  const bool digest = value.starts_with("xxh3:") || value.starts_with("sha256:");
  if (!digest || value.size() <= colon + 1 + kDigitsShown) return value;
  return value.substr(0, colon + 1 + kDigitsShown) + "..";
}

// The keys of a step that begin with one of the prefixes.
MadeFrom keys_of(const Recipe& recipe, RecipeStep step, const std::vector<std::string>& prefixes) {
  MadeFrom keys;
  std::istringstream lines(step_keys(recipe, step));
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(": ");
    for (const std::string& prefix : prefixes) {
      if (line.starts_with(prefix)) keys[line.substr(0, colon)] = line.substr(colon + 2);
    }
  }
  return keys;
}

Digest digest_of(const ScoreTable& scores) {
  Hasher hasher;
  hasher.update_int(scores.num_experts);
  for (const auto* kind : {&scores.token, &scores.gate}) {
    hasher.update_int(static_cast<int64_t>(kind->size()));
    for (const auto& [layer, values] : *kind) {
      hasher.update_int(layer);
      hasher.update_int(static_cast<int64_t>(values.size()));
      hasher.update(std::as_bytes(std::span(values)));
    }
  }
  return hasher.digest();
}

nlohmann::json base_config(const std::filesystem::path& model) {
  return computing_config(parse_json(read_model_config(model)).value);
}

}  // namespace

MadeFrom made_from(const nlohmann::json& json) {
  MadeFrom result;
  if (!json.is_object()) return result;
  for (const auto& [name, value] : json.items()) {
    if (value.is_string()) result[name] = value.get<std::string>();
  }
  return result;
}

std::vector<std::string> differences(const MadeFrom& then, const MadeFrom& now) {
  std::vector<std::string> found;
  for (const auto& [name, value] : then) {
    const auto at = now.find(name);
    if (at == now.end() || at->second == value) continue;
    found.push_back(fmt::format("{} was {}, is {}", name, shown(value), shown(at->second)));
  }
  return found;
}

std::string base_config_digest(const std::filesystem::path& model) {
  return xxh3(base_config(model).dump()).text();
}

MadeFrom scores_made_from(const Recipe& recipe, const std::string& base_digest,
                          const std::vector<std::pair<std::string, std::string>>& stores) {
  // Packing and too_long are for training: scoring takes documents as they are.
  MadeFrom result =
      keys_of(recipe, RecipeStep::kScore, {"model.dtype", "data.seq_len", "esft.score."});
  std::vector<std::string> names;
  for (const auto& [name, digest] : stores) {
    names.push_back(name);
    result["the tokens of " + name] = digest;
  }
  result["data.train"] = fmt::format("{}", fmt::join(names, ", "));
  result["the mix"] = is_mixed(recipe.data.train) ? mix_text(recipe.data.train) : "each once";
  result["the base model"] = base_digest;
  if (is_there(model_files_root(recipe.model.path) / "config.json")) {
    result["the base's config.json"] = base_config_digest(recipe.model.path);
    // Each key as well, so that a difference can be named.
    const nlohmann::json config = base_config(recipe.model.path);
    for (const auto& [key, value] : config.items()) {
      result["config.json " + key] = value.dump();
    }
  }
  return result;
}

MadeFrom selection_made_from(const SelectOptions& options, const ScoreTable& scores) {
  Recipe recipe;
  recipe.esft.select = options;
  MadeFrom result = keys_of(recipe, RecipeStep::kSelect, {"esft.select."});
  result["the scores"] = digest_of(scores).text();
  return result;
}

void write_selection(const ExpertConfig& config, MadeFrom made_from,
                     const std::filesystem::path& path) {
  write_file_atomic(path, to_json(config, std::move(made_from)));
}

}  // namespace sutor
