#include "launch/start/recipe_text.h"

#include <fmt/format.h>

#include <cctype>
#include <set>
#include <sstream>

#include "csrc/base/error.h"
#include "recipes/key_meanings.h"
#include "recipes/recipe_reader.h"
#include "recipes/recipe_values.h"

namespace sutor {
namespace {

constexpr size_t kCommentAt = 34;

// "# tokens, default 4096: length of a pack"
std::string comment_of(const KeyReference& key, bool shows_default) {
  std::string text = key.unit;
  if (shows_default && key.value != "required") {
    text += fmt::format("{}default {}", text.empty() ? "" : ", ", key.value);
  }
  return fmt::format("# {}{}{}", text, text.empty() ? "" : ": ", key.meaning);
}

std::string line_of(const std::string& code, const std::string& comment) {
  return fmt::format("{:<{}} {}\n", code, kCommentAt, comment);
}

// Names after files, of safe letters, each once.
class Names {
 public:
  std::string of(const std::string& path) {
    std::string name;
    for (const char c : default_set_name(path)) {
      const bool safe = std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
      name += safe ? c : '-';
    }
    if (name.empty() || name[0] == '-') name = "rows" + name;
    std::string own = name.substr(0, 100);
    for (int i = 2; !taken_.insert(own).second; ++i) own = fmt::format("{}-{}", name, i);
    return own;
  }

 private:
  std::set<std::string> taken_;
};

std::string sources_text(const RecipeParts& parts, const ChosenValues& chosen) {
  Names names;
  std::string text =
      "  train:                           # rows to train on; also format, columns, "
      "weight, epochs\n";
  for (const std::string& path : parts.train) {
    text += fmt::format("    - {{path: {}, name: {}}}\n", quoted(path), names.of(path));
  }
  if (!parts.eval.empty()) {
    text +=
        "  eval:                            # rows that are never trained on; the first set "
        "chooses the best checkpoint\n";
    for (const std::string& path : parts.eval) {
      text += fmt::format("    - {{path: {}, name: {}}}\n", quoted(path), names.of(path));
    }
  } else if (chosen.share > 0) {
    text +=
        line_of(fmt::format("  eval: {:.6g}%", chosen.share * 100),
                "# of the rows are held out by the hash of their content, and never trained on");
  } else {
    text += line_of("  eval: []", "# too few rows to hold some out; give a file, [{path: rows}]");
  }
  return text;
}

std::string reasons_text(const std::string& indent, const std::string& reason) {
  return reason.empty() ? "" : fmt::format("{}# {}\n", indent, reason);
}

std::string reason_of(const ChosenValues& chosen, const std::string& key) {
  const auto found = chosen.reasons.find(key);
  return found == chosen.reasons.end() ? "" : found->second;
}

std::string commented(const std::string& lines) {
  std::string text;
  std::istringstream stream(lines);
  for (std::string line; std::getline(stream, line);) text += "# " + line + "\n";
  return text;
}

class Writer {
 public:
  Writer(const RecipeParts& parts, const ChosenValues& chosen) : parts_(parts), chosen_(chosen) {
    values_ = chosen.values;
    values_["model.path"] = quoted(parts.model);
    values_["output"] = quoted(parts.output);
    for (const KeyReference& key : key_reference()) {
      if (key.key.find("[]") == std::string::npos) keys_.push_back(key);
    }
  }

  std::string text() {
    std::string result;
    for (const KeyReference& key : keys_) {
      open_sections(key.key, result);
      result += key_text(key);
    }
    return result;
  }

 private:
  static std::vector<std::string> sections_of(const std::string& key) {
    std::vector<std::string> sections;
    for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', dot + 1)) {
      sections.push_back(key.substr(0, dot));
    }
    return sections;
  }

  // Whether a section holds a value: otherwise it is a comment, like its keys.
  bool is_live(const std::string& section) const {
    if (section == "data") return true;
    for (const auto& [key, value] : values_) {
      if (key.starts_with(section + ".")) return true;
    }
    return false;
  }

  void open_sections(const std::string& key, std::string& result) {
    const std::vector<std::string> sections = sections_of(key);
    for (const std::string& section : sections) {
      if (!opened_.insert(section).second) continue;
      const size_t depth = sections_of(section).size();
      if (depth == 0) result += "\n";
      result += fmt::format("{}{:{}}{}:\n", is_live(section) ? "" : "# ", "", 2 * depth,
                            section.substr(section.rfind('.') + 1));
      if (section == "data") result += sources_text(parts_, chosen_);
    }
    if (sections.empty()) result += "\n";
  }

  std::string key_text(const KeyReference& key) const {
    const std::string indent(2 * sections_of(key.key).size(), ' ');
    const std::string name = key.key.substr(key.key.rfind('.') + 1);
    const auto value = values_.find(key.key);
    if (value == values_.end()) {
      return line_of(fmt::format("# {}{}: {}", indent, name, key.value),
                     comment_of(key, /*shows_default=*/false));
    }
    return reasons_text(indent, reason_of(chosen_, key.key)) +
           line_of(fmt::format("{}{}: {}", indent, name, value->second),
                   comment_of(key, /*shows_default=*/true));
  }

  const RecipeParts& parts_;
  const ChosenValues& chosen_;
  std::map<std::string, std::string> values_;
  std::vector<KeyReference> keys_;
  std::set<std::string> opened_;
};

}  // namespace

std::string recipe_text(const RecipeParts& parts, const ChosenValues& chosen) {
  std::string head = "Made by: " + parts.made_by + "\n" + parts.facts;
  for (const std::string& warning : chosen.warnings) head += "Mind: " + warning + "\n";
  head +=
      "Paths are relative to the folder in which sutor is started. Lines that are comments hold "
      "defaults:\ntake the `# ` away to set one, and that of its section. `sutor plan` says "
      "what the run will take.\n";
  return commented(head) + Writer(parts, chosen).text();
}

}  // namespace sutor
