// Reads the rotary settings of config.json from wherever transformers 4 and 5 write them, with the
// precedence that transformers 5.23.0 gives them.
#include <cmath>

#include "csrc/base/error.h"
#include "layers/decoder/config_reader.h"

namespace sutor {
namespace {

constexpr double kMostTheta = 1e18;

}  // namespace

double RopeConfig::mscale_of(double scale, double m) {
  return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1.0;
}

double RopeConfig::cos_sin_factor() const {
  if (type != "yarn") return 1.0;
  if (attention_factor) return *attention_factor;
  if (mscale != 0 && mscale_all_dim != 0) {
    return mscale_of(factor, mscale) / mscale_of(factor, mscale_all_dim);
  }
  return mscale_of(factor, 1);
}

// An empty section of the older name counts as none, one of the newer name as a plain rotation.
std::pair<std::string_view, nlohmann::json> ConfigReader::rope_section(
    const nlohmann::json& default_section) const {
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* section = find({key});
    if (section == nullptr) continue;
    if (!section->is_object()) wrong_type({key}, "an object", *section);
    if (key == "rope_scaling" && section->empty()) continue;
    for (const auto& item : section->items()) {
      if (item.value().is_object()) unsupported(key, "every layer is rotated alike");
    }
    return {key, *section};
  }
  return {"rope_parameters",
          default_section.is_object() ? default_section : nlohmann::json::object()};
}

double ConfigReader::rotated_fraction(std::string_view section_key, const nlohmann::json& section,
                                      std::optional<double> default_partial) const {
  const char* name = "partial_rotary_factor";
  const bool inside = section.contains(name);
  const std::string_view key = inside ? section_key : name;
  double partial = default_partial.value_or(1.0);
  if (inside) {
    partial = ConfigReader(section).number_or({name}, partial);
  } else if (const auto at = config_.find(name); at != config_.end()) {
    partial = at->is_null() ? 1.0 : number_or({name}, partial);
  }
  if (!default_partial && partial != 1.0) unsupported(key, "this family rotates whole heads");
  if (partial <= 0 || partial > 1) contradictory(key, "it must be above 0 and at most 1");
  return partial;
}

void ConfigReader::read_yarn(std::string_view key, const nlohmann::json& section,
                             RopeConfig& rope) const {
  const ConfigReader inner(section);
  const char* original = "original_max_position_embeddings";
  if (rope.theta <= 1) contradictory(key, "yarn needs a rope_theta above 1");
  // Beside the section it wins; nowhere, the context is the original one.
  rope.original_max_positions = has(original)         ? positive_or({original}, 0)
                                : inner.has(original) ? inner.positive_or({original}, 0)
                                                      : positive_or({"max_position_embeddings"}, 0);
  if (rope.original_max_positions <= 0) {
    contradictory(key, "yarn needs original_max_position_embeddings");
  }
  if (!section.contains("factor")) contradictory(key, "yarn needs a factor");
  rope.factor = section["factor"].is_null()
                    ? positive_or({"max_position_embeddings"}, 0) / rope.original_max_positions
                    : inner.positive_or({"factor"}, 1);
  if (rope.factor <= 0) contradictory(key, "yarn needs a factor, or max_position_embeddings");
  rope.beta_fast = inner.positive_or({"beta_fast"}, 32);
  rope.beta_slow = inner.positive_or({"beta_slow"}, 1);
  if (rope.beta_fast < rope.beta_slow) contradictory(key, "beta_fast is below beta_slow");
  rope.mscale = inner.number_or({"mscale"}, 0);
  rope.mscale_all_dim = inner.number_or({"mscale_all_dim"}, 0);
  if (rope.mscale < 0 || rope.mscale_all_dim < 0) contradictory(key, "mscale is negative");
  if (rope.mscale_all_dim > 0 && section["factor"].is_null()) {
    contradictory(key, "mscale_all_dim needs a factor");
  }
  rope.truncate = inner.flag_or({"truncate"}, true);
  if (inner.has("attention_factor")) {
    rope.attention_factor = inner.positive_or({"attention_factor"}, 1);
  }
}

RopeConfig ConfigReader::rope(double default_theta, std::optional<double> default_partial,
                              const nlohmann::json& default_section) const {
  const auto [key, section] = rope_section(default_section);
  const ConfigReader inner(section);
  RopeConfig rope;
  rope.theta = section.contains("rope_theta")
                   ? inner.positive_or({"rope_theta"}, default_theta, kMostTheta)
                   : positive_or({"rope_theta"}, default_theta, kMostTheta);
  rope.partial = rotated_fraction(key, section, default_partial);
  rope.type = section.contains("rope_type") ? inner.text_or({"rope_type"}, "default")
                                            : inner.text_or({"type"}, "default");
  if (rope.type == "default") return rope;
  if (rope.type != "yarn") unsupported(key, "rope types are default and yarn");
  read_yarn(key, section, rope);
  return rope;
}

}  // namespace sutor
