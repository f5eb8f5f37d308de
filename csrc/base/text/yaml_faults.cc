#include "csrc/base/text/yaml_faults.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <string_view>
#include <vector>

namespace sutor {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

size_t indent_of(std::string_view line) {
  return std::min(line.find_first_not_of(' '), line.size());
}

// A line without anything, or with a comment alone.
bool is_empty(std::string_view line) {
  const size_t begin = line.find_first_not_of(" \t\r");
  return begin == std::string_view::npos || line[begin] == '#';
}

// A quote or bracket that is open at the end of the text.
struct Opened {
  char mark = 0;
  int line = 0, column = 0;
};

// The first that is, or that a bracket of the other kind closes. Follows quotes and comments. In
// block context a quote counts at the beginning of a value alone, so that an apostrophe in a text
// is one.
std::optional<Opened> left_open(const std::vector<std::string_view>& lines) {
  std::vector<Opened> open;
  char quote = 0;
  Opened quoted;
  for (size_t l = 0; l < lines.size(); ++l) {
    const std::string_view line = lines[l];
    bool at_value = true;
    for (size_t c = 0; c < line.size(); ++c) {
      const char at = line[c];
      if (quote != 0) {
        if (quote == '"' && at == '\\') {
          ++c;
        } else if (at == quote) {
          quote = 0;
          at_value = false;
        }
        continue;
      }
      const Opened here{at, static_cast<int>(l) + 1, static_cast<int>(c) + 1};
      if (at == '#' && (c == 0 || is_blank(line[c - 1]))) break;
      if ((at == '"' || at == '\'') && at_value) {
        quote = at;
        quoted = here;
      } else if ((at == '[' || at == '{') && (at_value || !open.empty())) {
        open.push_back(here);
        at_value = true;
        continue;
      } else if ((at == ']' || at == '}') && !open.empty()) {
        if ((at == ']') != (open.back().mark == '[')) return open.back();  // the other kind
        open.pop_back();
      }
      if (is_blank(at)) continue;
      const bool next_blank = c + 1 >= line.size() || is_blank(line[c + 1]);
      at_value = ((at == ':' || at == '-') && next_blank) || (!open.empty() && at == ',');
    }
  }
  if (quote != 0) return quoted;
  if (!open.empty()) return open.back();
  return std::nullopt;
}

// "  lr:1e-5": the column of the colon of a key that has no space behind it; npos: none.
size_t tight_colon(std::string_view line) {
  size_t at = indent_of(line);
  if (line.substr(at).starts_with("- ")) at += 2;
  const size_t begin = at;
  while (at < line.size() && (std::isalnum(static_cast<unsigned char>(line[at])) != 0 ||
                              line[at] == '_' || line[at] == '.')) {
    ++at;
  }
  const bool tight = at > begin && at + 1 < line.size() && line[at] == ':' &&
                     !is_blank(line[at + 1]) && line[at + 1] != '/';
  return tight ? at : std::string_view::npos;
}

// The indentations that a line may have there: those of the mappings and lists around it, and any
// deeper one behind a key without a value.
std::vector<size_t> levels_before(const std::vector<std::string_view>& lines, size_t line,
                                  bool& may_be_deeper) {
  std::vector<size_t> levels;
  may_be_deeper = false;
  for (size_t l = 0; l < line; ++l) {
    if (is_empty(lines[l])) continue;
    const size_t indent = indent_of(lines[l]);
    while (!levels.empty() && levels.back() > indent) levels.pop_back();
    if (levels.empty() || levels.back() < indent) levels.push_back(indent);
    if (lines[l].substr(indent).starts_with("- ")) levels.push_back(indent + 2);
    std::string_view rest = lines[l].substr(0, lines[l].find(" #"));
    while (!rest.empty() && is_blank(rest.back())) rest.remove_suffix(1);
    may_be_deeper = rest.ends_with(':') || rest.ends_with('-');
  }
  return levels;
}

std::optional<YamlFault> wrong_indent(const std::vector<std::string_view>& lines, int line) {
  const auto at = static_cast<size_t>(line) - 1;
  if (line < 1 || at >= lines.size() || is_empty(lines[at])) return std::nullopt;
  bool may_be_deeper = false;
  const std::vector<size_t> levels = levels_before(lines, at, may_be_deeper);
  const size_t indent = indent_of(lines[at]);
  if (levels.empty() || std::count(levels.begin(), levels.end(), indent) > 0) return std::nullopt;
  if (indent > levels.back() && may_be_deeper) return std::nullopt;
  return YamlFault{
      line, static_cast<int>(indent) + 1,
      fmt::format("the line is indented by {} spaces, but the lines that it may belong to by {}. "
                  "Keys of one section begin in one column",
                  indent, fmt::join(levels, " or "))};
}

std::optional<YamlFault> first_tab(const std::vector<std::string_view>& lines) {
  for (size_t l = 0; l < lines.size(); ++l) {
    const size_t begin = lines[l].find_first_not_of(' ');
    if (begin == std::string_view::npos || lines[l][begin] != '\t' || is_empty(lines[l])) continue;
    return YamlFault{static_cast<int>(l) + 1, static_cast<int>(begin) + 1,
                     "a tab indents the line; YAML takes spaces alone. Replace it by two spaces"};
  }
  return std::nullopt;
}

std::optional<YamlFault> conflict_mark(const std::vector<std::string_view>& lines) {
  for (size_t l = 0; l < lines.size(); ++l) {
    for (const char* mark : {"<<<<<<< ", ">>>>>>> ", "======="}) {
      if (!lines[l].starts_with(mark)) continue;
      return YamlFault{static_cast<int>(l) + 1, 1,
                       "a mark of git's, about a merge that is not finished. Keep one of the two "
                       "sides and remove the marks"};
    }
  }
  return std::nullopt;
}

// What a character at the beginning of a value means to YAML.
std::optional<YamlFault> special_begin(const std::vector<std::string_view>& lines, int line,
                                       int column) {
  const auto l = static_cast<size_t>(line) - 1;
  if (line < 1 || l >= lines.size()) return std::nullopt;
  const std::string_view text = lines[l];
  size_t at = std::min(static_cast<size_t>(std::max(column, 1)) - 1, text.size());
  // The parser stands at it, or right behind.
  for (const size_t near : {at, at > 0 ? at - 1 : at}) {
    if (near < text.size() && contains("*&@`%!|>", text.substr(near, 1))) {
      return YamlFault{line, static_cast<int>(near) + 1,
                       fmt::format("a value cannot begin with `{}`, which means something to YAML. "
                                   "Put the value in quotes",
                                   text[near])};
    }
  }
  return std::nullopt;
}

YamlFault opened_fault(const Opened& open) {
  const bool quote = open.mark == '"' || open.mark == '\'';
  const char end = open.mark == '[' ? ']' : open.mark == '{' ? '}' : open.mark;
  return {open.line, open.column,
          quote ? fmt::format("a quote {} begins here and nothing ends it. Add the second one",
                              open.mark)
                : fmt::format("a `{}` begins here and no `{}` ends it. Add it", open.mark, end)};
}

// "a: b: c" on a line of block context: the column of the second colon.
std::optional<YamlFault> second_colon(const std::vector<std::string_view>& lines, int line) {
  const auto l = static_cast<size_t>(line) - 1;
  if (line < 1 || l >= lines.size()) return std::nullopt;
  const size_t first = lines[l].find(": ");
  const size_t second = first == std::string_view::npos ? first : lines[l].find(": ", first + 2);
  if (second == std::string_view::npos) return std::nullopt;
  return YamlFault{line, static_cast<int>(second) + 1,
                   "a second `: ` on the line. Put the value in quotes, or the keys on lines of "
                   "their own"};
}

}  // namespace

std::optional<YamlFault> yaml_fault(const std::string& text, int line, int column,
                                    const std::string& message) {
  const std::vector<std::string_view> lines = lines_of(text);
  if (auto fault = conflict_mark(lines)) return fault;
  if (auto fault = first_tab(lines)) return fault;
  if (contains(message, "escape")) {
    return YamlFault{line, column,
                     "in double quotes a `\\` begins an escape. Put the text in single quotes"};
  }
  if (const auto open = left_open(lines)) return opened_fault(*open);
  // The line before may be the one that is wrong: the parser stops behind it.
  for (const int near : {line, line - 1}) {
    if (near < 1 || static_cast<size_t>(near) > lines.size()) continue;
    const std::string_view text_there = lines[static_cast<size_t>(near) - 1];
    const size_t colon = tight_colon(text_there);
    if (colon == std::string_view::npos) continue;
    return YamlFault{near, static_cast<int>(colon) + 1,
                     "a space is missing behind the colon: write `key: value`"};
  }
  if (contains(message, "anchor") || contains(message, "unknown token") ||
      contains(message, "alias") || contains(message, "tag")) {
    if (auto fault = special_begin(lines, line, column)) return fault;
  }
  if (auto fault = wrong_indent(lines, line)) return fault;
  if (contains(message, "illegal map value")) {
    if (auto fault = second_colon(lines, line)) return fault;
  }
  if (auto fault = special_begin(lines, line, column)) return fault;
  return std::nullopt;
}

}  // namespace sutor
