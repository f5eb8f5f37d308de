// Reads the keys of a Hugging Face config.json with clear errors. Free of torch.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/attention/rope_config.h"

namespace sutor {

// Several names of a key are aliases, which must not contradict each other. A key that is absent
// has the family's default, if there is one. One that is null has no value where null means
// something in transformers ("no sliding window"), and is refused elsewhere, as there.
// Throws E0321 for a missing required key, an ill-typed value or one out of its range, and for two
// keys that contradict each other, E0320 for an unsupported one. Ranges are far beyond any model,
// and small enough that nothing which is made in proportion to a size takes much before it is
// compared with the files.
class ConfigReader {
 public:
  using Names = std::initializer_list<std::string_view>;
  // Widths, tokens of a vocabulary, positions of a context.
  static constexpr int64_t kMostWide = int64_t{1} << 24;
  static constexpr int64_t kMostLong = int64_t{1} << 40;
  static constexpr int64_t kMostLayers = 4096, kMostExperts = 65536, kMostHeads = 65536;
  static constexpr double kMostReal = 1e12;
  // defaults: what transformers' class of the family gives keys that a file leaves out. nullable:
  // keys that may be null in this family, beside those that may be in all.
  explicit ConfigReader(const nlohmann::json& config, nlohmann::json defaults = {},
                        std::vector<std::string_view> nullable = {});

  const std::string& family() const { return family_; }
  int64_t integer(Names names, int64_t most = kMostWide) const;  // required, 1 to most
  int64_t integer_or(Names names, int64_t fallback, int64_t least = 0,
                     int64_t most = kMostWide) const;
  double number_or(Names names, double fallback) const;
  // A number above 0 and at most `most`.
  double positive_or(Names names, double fallback, double most = kMostReal) const;
  bool flag_or(Names names, bool fallback) const;
  std::string text_or(Names names, const std::string& fallback) const;
  std::vector<int64_t> integers_or_empty(Names names) const;
  std::vector<std::string> texts_or_empty(Names names) const;
  bool has(std::string_view name) const;
  // `rope_scaling` (transformers 4), which wins over `rope_parameters` (5), which wins over
  // `default_section`; `rope_theta` and `partial_rotary_factor` inside of it or, when they are not
  // there, beside it. Without a default for the fraction of a head that is rotated, the family
  // rotates full heads.
  RopeConfig rope(double default_theta, std::optional<double> default_partial = {},
                  const nlohmann::json& default_section = {}) const;
  // Throws E0321: "config.json: `KEY` = VALUE: reason".
  [[noreturn]] void contradictory(std::string_view key, const std::string& reason) const;
  // Throws E0320: "config.json: KEY = VALUE is not supported by FAMILY: reason".
  [[noreturn]] void unsupported(std::string_view key, const std::string& reason) const;
  // Refuse a `key` that is present with another value than `wanted`.
  void require_text(std::string_view key, std::string_view wanted) const;
  void require_flag(std::string_view key, bool wanted) const;
  void require_number(std::string_view key, double wanted) const;
  // Refuses sliding windows, and `layer_types` (transformers 5) other than full attention.
  void require_full_attention() const;

 private:
  // The section that counts, and its key.
  std::pair<std::string_view, nlohmann::json> rope_section(
      const nlohmann::json& default_section) const;
  double rotated_fraction(std::string_view key, const nlohmann::json& section,
                          std::optional<double> default_partial) const;
  void read_yarn(std::string_view key, const nlohmann::json& section, RopeConfig& rope) const;
  bool may_be_null(std::string_view name) const;
  const nlohmann::json* find(Names names) const;
  // found: what find() returned.
  [[noreturn]] void wrong_type(Names names, std::string_view expected,
                               const nlohmann::json& found) const;
  const nlohmann::json& config_;
  nlohmann::json defaults_;
  std::vector<std::string_view> nullable_;
  std::string family_;
};

}  // namespace sutor
