#include "recipes/key_suggestion.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <utility>
#include <vector>

#include "csrc/base/text/nearest.h"
#include "recipes/recipe_schema.h"
#include "recipes/recipe_values.h"

namespace sutor {
namespace {

// All keys that have values, as {section, name}.
std::vector<std::pair<std::string, std::string>> all_keys() {
  std::vector<std::pair<std::string, std::string>> keys = {{"data", "train"}, {"data", "eval"}};
  for (const Field& field : recipe_fields()) {
    const size_t dot = field.key.rfind('.');
    if (dot == std::string::npos) {
      keys.emplace_back("", field.key);
    } else {
      keys.emplace_back(field.key.substr(0, dot), field.key.substr(dot + 1));
    }
  }
  return keys;
}

std::string joined(const std::string& section, const std::string& name) {
  return section.empty() ? name : section + "." + name;
}

// "--micro-batch-size" and "microBatchSize" as "micro_batch_size".
std::string plain(std::string_view name) {
  std::string text;
  for (const char c : name.substr(std::min(name.find_first_not_of('-'), name.size()))) {
    const bool upper = std::isupper(static_cast<unsigned char>(c)) != 0;
    if (upper && !text.empty() && std::islower(static_cast<unsigned char>(text.back()))) {
      text += '_';
    }
    text += c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return text;
}

std::string of_other_trainers(const std::string& leaf) {
  const std::string name = plain(leaf);
  for (const ForeignKey& key : foreign_keys()) {
    if (key.name != name) continue;
    if (key.ours.empty()) {
      return fmt::format("`{}` of other trainers has no key here: {}", leaf, key.note);
    }
    return fmt::format("`{}` of other trainers is `{}` here{}{}", leaf, key.ours,
                       key.note.empty() ? "" : ": ", key.note);
  }
  return "";
}

// What YAML makes of a slip of the pen: a comma in a number, no space behind a colon.
std::string of_spelling(const std::string& section, const std::string& leaf) {
  if (leaf == "<<") {
    return "YAML's merge keys are not read: write `base: other.yaml` at the top level, or the keys "
           "themselves";
  }
  if (values::parse_number<double>(YAML::Node(leaf))) {
    return fmt::format(
        "a number where a key of {} should be: a comma ends a value within braces; a decimal point "
        "is `.`",
        section.empty() ? "the recipe" : "`" + section + "`");
  }
  const size_t colon = leaf.find(':');
  if (colon != std::string::npos && colon > 0 && colon + 1 < leaf.size()) {
    return fmt::format("a space is missing behind the colon: write `{}: {}`", leaf.substr(0, colon),
                       leaf.substr(colon + 1));
  }
  return "";
}

}  // namespace

std::string suggestion(const std::string& name) {
  // Of "optim.lr:1.5" the key is "lr:1.5".
  const size_t dot = name.substr(0, name.find(':')).rfind('.');
  std::string section = dot == std::string::npos ? "" : name.substr(0, dot);
  std::string leaf = dot == std::string::npos ? name : name.substr(dot + 1);
  for (size_t at = dot; at != std::string::npos && !section.empty() && !is_section(section) &&
                        !is_source_list(section.substr(0, section.find('[')));) {
    // A number such as 1.5 holds a dot itself.
    at = section.rfind('.');
    section = at == std::string::npos ? "" : name.substr(0, at);
    leaf = at == std::string::npos ? name : name.substr(at + 1);
  }
  if (const std::string slip = of_spelling(section, leaf); !slip.empty()) return slip;
  section = section.substr(0, section.find('['));
  const size_t near = leaf.size() <= 3 ? 1 : std::max<size_t>(2, leaf.size() / 3);
  std::vector<std::string> siblings = keys_under(section);
  if (siblings.empty()) return fmt::format("sections are {}", fmt::join(keys_under(""), ", "));

  const auto closer = [&](const std::string& a, const std::string& b) {
    return edit_distance(a, leaf) < edit_distance(b, leaf);
  };
  const std::string sibling = *std::min_element(siblings.begin(), siblings.end(), closer);
  if (edit_distance(sibling, leaf) <= 1) return fmt::format("did you mean `{}`?", sibling);
  for (const auto& [owner, key] : all_keys()) {
    if (key != leaf) continue;
    if (owner.empty()) return fmt::format("`{}` belongs to the top level", leaf);
    return fmt::format("`{}` belongs to `{}`: write `{}.{}`", leaf, owner, owner, leaf);
  }
  if (const std::string foreign = of_other_trainers(leaf); !foreign.empty()) return foreign;
  if (edit_distance(sibling, leaf) <= near) return fmt::format("did you mean `{}`?", sibling);
  for (const auto& [owner, key] : all_keys()) {
    if (edit_distance(key, leaf) <= near) {
      return fmt::format("did you mean `{}`?", joined(owner, key));
    }
  }
  return fmt::format("{} {}",
                     section.empty() ? "sections are" : fmt::format("`{}` has the keys", section),
                     fmt::join(siblings, ", "));
}

}  // namespace sutor
