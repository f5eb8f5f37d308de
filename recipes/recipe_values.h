// Readers of single recipe values. A reader is called with the YAML node and the member to fill; it
// returns "" or what it expected ("a number above 0"), and accepts nothing loosely: a quoted number
// is text, and the only booleans are those of YAML 1.2: true, True, TRUE and the like.
#pragma once

#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace sutor {

// "the text `abc`", "a list of 3", "nothing": how an error describes what it got.
std::string describe(const YAML::Node& node);
// A scalar that reads back as the same text.
std::string quoted(const std::string& text);
// A path with the home folder in the place of a leading `~/`, as shells have it.
std::string with_home(const std::string& path);

namespace values {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

inline bool is_quoted(const YAML::Node& node) { return node.Tag() == "!"; }

// A plain scalar that spells a whole number or a finite number; nothing otherwise.
template <typename T>
std::optional<T> parse_number(const YAML::Node& node) {
  if (!node.IsScalar() || is_quoted(node)) return std::nullopt;
  const std::string& text = node.Scalar();
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) return std::nullopt;
  }
  return value;
}

// A whole number that may carry k or M.
inline std::optional<int64_t> parse_token_count(const YAML::Node& node) {
  if (!node.IsScalar() || is_quoted(node)) return std::nullopt;
  std::string text = node.Scalar();
  int64_t unit = 1;
  if (text.ends_with('k')) unit = 1024;
  if (text.ends_with('M')) unit = 1024 * 1024;
  if (unit > 1) text.pop_back();
  const std::optional<int64_t> count = parse_number<int64_t>(YAML::Node(text));
  if (!count || *count > std::numeric_limits<int64_t>::max() / unit || *count < -unit) return {};
  return *count * unit;
}

inline bool is_word(const YAML::Node& node, std::string_view word) {
  return node.IsScalar() && !is_quoted(node) && node.Scalar() == word;
}

template <typename T>
std::string show_value(const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    return quoted(value);
  } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    std::vector<std::string> items;
    for (const std::string& item : value) items.push_back(quoted(item));
    return fmt::format("[{}]", fmt::join(items, ", "));
  } else if constexpr (std::is_same_v<T, std::vector<int>>) {
    return fmt::format("[{}]", fmt::join(value, ", "));
  } else {
    return fmt::format("{}", value);
  }
}

template <typename T>
std::string show_value(const std::optional<T>& value) {
  return value ? show_value(*value) : "null";
}

inline auto text() {
  return [](const YAML::Node& node, auto& value) -> std::string {
    if (!node.IsScalar() || node.Scalar().empty()) return "text";
    value = node.Scalar();
    return "";
  };
}

// Texts that are paths.
inline auto path() {
  return [](const YAML::Node& node, auto& value) -> std::string {
    if (!node.IsScalar() || node.Scalar().empty()) return "text";
    value = with_home(node.Scalar());
    return "";
  };
}

inline auto path_or_null() {
  return [](const YAML::Node& node, std::optional<std::string>& value) -> std::string {
    value.reset();
    return node.IsNull() ? "" : path()(node, value);
  };
}

inline auto text_or_null() {
  return [](const YAML::Node& node, std::optional<std::string>& value) -> std::string {
    value.reset();
    return node.IsNull() ? "" : text()(node, value);
  };
}

// A boolean of YAML 1.2's core schema; nothing for anything else, `yes`, `on` and the like of YAML
// 1.1 among them.
inline std::optional<bool> parse_boolean(const YAML::Node& node) {
  for (const char* word : {"true", "True", "TRUE"}) {
    if (is_word(node, word)) return true;
  }
  for (const char* word : {"false", "False", "FALSE"}) {
    if (is_word(node, word)) return false;
  }
  return std::nullopt;
}

// A choice `true` or `false` may be written as any boolean.
inline auto one_of(std::vector<std::string> choices) {
  return [choices](const YAML::Node& node, std::string& value) -> std::string {
    if (node.IsScalar()) value = node.Scalar();
    if (const std::optional<bool> flag = parse_boolean(node)) value = *flag ? "true" : "false";
    if (node.IsScalar() && std::find(choices.begin(), choices.end(), value) != choices.end()) {
      return "";
    }
    return fmt::format("one of {}", fmt::join(choices, ", "));
  };
}

inline auto texts(std::vector<std::string> choices = {}) {
  return [choices](const YAML::Node& node, std::vector<std::string>& value) -> std::string {
    const std::string expected =
        choices.empty() ? "a list of texts" : fmt::format("a list of {}", fmt::join(choices, ", "));
    if (!node.IsSequence()) return expected;
    value.clear();
    for (const YAML::Node& item : node) {
      if (!item.IsScalar() || item.Scalar().empty()) return expected;
      const std::string& word = item.Scalar();
      if (!choices.empty() && std::find(choices.begin(), choices.end(), word) == choices.end()) {
        return expected;
      }
      value.push_back(word);
    }
    return "";
  };
}

inline auto boolean() {
  return [](const YAML::Node& node, bool& value) -> std::string {
    const std::optional<bool> parsed = parse_boolean(node);
    if (parsed) value = *parsed;
    return parsed ? "" : "true or false";
  };
}

inline auto whole(int64_t least, int64_t most = std::numeric_limits<int32_t>::max()) {
  return [least, most](const YAML::Node& node, auto& value) -> std::string {
    const std::optional<int64_t> number = parse_number<int64_t>(node);
    if (number && *number >= least && *number <= most) {
      value = static_cast<std::remove_reference_t<decltype(value)>>(*number);
      return "";
    }
    if (most == std::numeric_limits<int32_t>::max()) {
      return fmt::format("a whole number of at least {}", least);
    }
    return fmt::format("a whole number from {} to {}", least, most);
  };
}

inline auto whole_or_null(int64_t least) {
  return [least](const YAML::Node& node, auto& value) -> std::string {
    value.reset();
    if (node.IsNull()) return "";
    const std::string expected = whole(least)(node, value.emplace());
    return expected.empty() ? "" : expected + ", or null";
  };
}

inline auto seed() {
  return [](const YAML::Node& node, uint64_t& value) -> std::string {
    const std::optional<uint64_t> number = parse_number<uint64_t>(node);
    value = number.value_or(0);
    return number ? "" : "a whole number of at least 0";
  };
}

inline auto token_count(bool minus_one_is_all) {
  return [minus_one_is_all](const YAML::Node& node, int64_t& value) -> std::string {
    const std::optional<int64_t> number = parse_token_count(node);
    value = number.value_or(0);
    const int64_t least = minus_one_is_all ? 1 : 2;
    if (number && (value >= least || (minus_one_is_all && value == -1))) return "";
    return fmt::format("a number of tokens of at least {} (as 4096 or 4k){}", least,
                       minus_one_is_all ? ", or -1 for all" : "");
  };
}

// A number in [low, high], without the ends that are open.
struct Interval {
  double low = -kInfinity, high = kInfinity;
  bool low_open = false, high_open = false;
  bool holds(double x) const {
    return (low_open ? x > low : x >= low) && (high_open ? x < high : x <= high);
  }
  std::string text() const {
    std::string result = fmt::format("a number {} {}", low_open ? "above" : "of at least", low);
    if (high < kInfinity) {
      result += fmt::format(" and {} {}", high_open ? "below" : "at most", high);
    }
    return result;
  }
};
inline constexpr Interval kPositive = {.low = 0, .low_open = true};
inline constexpr Interval kTimes = {.low = 0, .high = 1e6, .low_open = true};
inline constexpr Interval kNotNegative = {.low = 0};
inline constexpr Interval kShare = {.low = 0, .high = 1, .low_open = true};
inline constexpr Interval kBeta = {.low = 0, .high = 1, .high_open = true};

inline auto number(Interval interval) {
  return [interval](const YAML::Node& node, double& value) -> std::string {
    const std::optional<double> number = parse_number<double>(node);
    value = number.value_or(0);
    return number && interval.holds(value) ? "" : interval.text();
  };
}

// A number, or `word` for no number.
inline auto number_or(std::string word, Interval interval) {
  return [word, interval](const YAML::Node& node, std::optional<double>& value) -> std::string {
    value.reset();
    if (is_word(node, word) || (word == "null" && node.IsNull())) return "";
    const std::string expected = number(interval)(node, value.emplace());
    return expected.empty() ? "" : fmt::format("{}, or {}", expected, word);
  };
}

// 0.2 or 20%.
inline std::optional<double> parse_share(const YAML::Node& node) {
  if (!node.IsScalar() || is_quoted(node) || !node.Scalar().ends_with('%')) {
    return parse_number<double>(node);
  }
  const std::string& text = node.Scalar();
  const auto percent = parse_number<double>(YAML::Node(text.substr(0, text.size() - 1)));
  return percent ? std::optional(*percent / 100) : std::nullopt;
}

// A share of kShare as a number or a percentage, or `word` for none.
inline auto share_or(std::string word) {
  return [word](const YAML::Node& node, std::optional<double>& value) -> std::string {
    value.reset();
    if (is_word(node, word) || (word == "null" && node.IsNull())) return "";
    value = parse_share(node);
    if (value && kShare.holds(*value)) return "";
    return kShare.text() + fmt::format(" (as 0.2 or 20%), or {}", word);
  };
}

// An absolute number or a percentage; kept as text.
inline auto number_or_percent(bool whole_number) {
  return [whole_number](const YAML::Node& node, std::string& value) -> std::string {
    const std::string expected = fmt::format("{} of at least 0, or a share like 3%",
                                             whole_number ? "a whole number" : "a number");
    if (!node.IsScalar()) return expected;
    value = node.Scalar();
    const bool percent = value.ends_with('%');
    const YAML::Node figure(percent ? value.substr(0, value.size() - 1) : value);
    const std::optional<double> parsed = parse_number<double>(figure);
    const bool is_whole = parse_number<int64_t>(figure).has_value();
    if (!parsed || *parsed < 0) return expected;
    return (percent ? *parsed <= 100 : is_whole || !whole_number) ? "" : expected;
  };
}

// 5% or 0.05: a part, neither nothing nor all.
inline std::string share_or_null(const YAML::Node& node, std::optional<double>& value) {
  value.reset();
  if (node.IsNull()) return "";
  const std::string expected = "a share above 0 and below 1, such as 5% or 0.05";
  if (!node.IsScalar() || is_quoted(node)) return expected;
  const bool percent = node.Scalar().ends_with('%');
  const std::string figure = node.Scalar().substr(0, node.Scalar().size() - (percent ? 1 : 0));
  const std::optional<double> number = parse_number<double>(YAML::Node(figure));
  if (number) value = percent ? *number / 100 : *number;
  return value && *value > 0 && *value < 1 ? "" : expected;
}

inline std::string read_threads(const YAML::Node& node, std::string& value) {
  int count = 0;
  if (!is_word(node, "auto") && !whole(1, 4096)(node, count).empty()) {
    return "a number of threads of at least 1, or auto";
  }
  value = node.Scalar();
  return "";
}

inline std::string read_layers(const YAML::Node& node, std::optional<std::vector<int>>& value) {
  const std::string expected = "all, or a list of layer numbers";
  value.reset();
  if (is_word(node, "all")) return "";
  if (!node.IsSequence() || node.size() == 0) return expected;
  value.emplace();
  for (const YAML::Node& item : node) {
    if (!whole(0)(item, value->emplace_back()).empty()) return expected;
  }
  return "";
}

}  // namespace values
}  // namespace sutor
