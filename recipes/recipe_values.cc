// How errors describe recipe values, and how these are written back.
#include "recipes/recipe_values.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include "csrc/base/text/json.h"

namespace sutor {

using values::parse_number;

namespace {

constexpr size_t kMostShown = 3, kLongestShown = 40;  // items, and bytes of each

// "a list of 2 (q_proj, v_proj)"
std::string describe_list(const YAML::Node& list) {
  std::string items;
  for (size_t i = 0; i < std::min(list.size(), kMostShown); ++i) {
    const YAML::Node item = list[i];
    if (!item.IsScalar() || item.Scalar().size() > kLongestShown) {
      return fmt::format("a list of {}", list.size());
    }
    items += (i > 0 ? ", " : "") + item.Scalar();
  }
  if (list.size() > kMostShown) items += ", ...";
  return fmt::format("a list of {}{}", list.size(), items.empty() ? "" : " (" + items + ")");
}

}  // namespace

std::string describe(const YAML::Node& node) {
  if (node.IsNull()) return "nothing";
  if (node.IsSequence()) return describe_list(node);
  if (node.IsMap()) return "a mapping";
  const bool figure = parse_number<double>(node).has_value();
  return fmt::format("{}`{}`", figure ? "" : "the text ", node.Scalar());
}

std::string quoted(const std::string& text) {
  static const std::set<std::string> reserved = {"null", "true", "false", "yes", "no",
                                                 "on",   "off",  "y",     "n"};
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '/' ||
           c == '-';
  };
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool good = !text.empty() && std::all_of(text.begin(), text.end(), plain) &&
                    text[0] != '-' && text[0] != '.' && !reserved.count(lower) &&
                    !parse_number<double>(YAML::Node(text));
  return good ? text : dump_json(nlohmann::json(text));
}

std::string with_home(const std::string& path) {
  const char* home = path.starts_with("~/") ? std::getenv("HOME") : nullptr;
  return home == nullptr || *home == '\0' ? path : home + path.substr(1);
}

}  // namespace sutor
