#include "launch/cli/codes/code_help.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <vector>

#include "csrc/base/error.h"
#include "launch/cli/codes/code_texts.h"

namespace sutor {
namespace {

struct Entry {
  int number;
  std::string_view meaning;
};

constexpr Entry kErrors[] = {
#define SUTOR_ENTRY(number, name, exit_code, text) {number, text},
    SUTOR_ERRORS(SUTOR_ENTRY)
#undef SUTOR_ENTRY
};

constexpr Entry kWarnings[] = {
#define SUTOR_ENTRY(number, name, text) {number, text},
    SUTOR_WARNINGS(SUTOR_ENTRY)
#undef SUTOR_ENTRY
};

struct Code {
  char kind;  // E or W
  int number;
};

// Nothing when `text` has another form.
std::optional<Code> parse_code(std::string_view text) {
  Code code{'E', 0};
  if (text.empty()) return std::nullopt;
  const char first = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  if (first == 'E' || first == 'W') {
    code.kind = first;
    text.remove_prefix(1);
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), code.number);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && text.size() <= 4 && code.number > 0 ? std::optional(code) : std::nullopt;
}

// Lines of at most 90 characters, each behind `indent` spaces.
std::string wrapped(std::string_view text, size_t indent) {
  constexpr size_t kWidth = 90;
  std::string result, line;
  while (!text.empty()) {
    const size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
    if (!line.empty() && line.size() + 1 + word.size() > kWidth) {
      result += fmt::format("{:{}}{}\n", "", indent, line);
      line.clear();
    }
    line += fmt::format("{}{}", line.empty() ? "" : " ", word);
  }
  return result + fmt::format("{:{}}{}\n", "", indent, line);
}

template <typename Texts>
std::string causes_and_remedies(const Texts& texts, int number) {
  for (const auto& text : texts) {
    if (number_of(text.code) != number) continue;
    return fmt::format("causes:\n{}what to do:\n{}", wrapped(text.cause, 2),
                       wrapped(text.remedy, 2));
  }
  return "";
}

std::string error_causes(int number) {
  std::string found = causes_and_remedies(check_and_usage_texts(), number);
  if (found.empty()) found = causes_and_remedies(data_texts(), number);
  if (found.empty()) found = causes_and_remedies(running_texts(), number);
  return found;
}

// The three codes with the nearest numbers: "E0201, E0202, E0203".
template <size_t N>
std::string nearest_codes(const Entry (&entries)[N], const Code& code) {
  std::vector<int> numbers;
  for (const Entry& entry : entries) numbers.push_back(entry.number);
  std::stable_sort(numbers.begin(), numbers.end(), [&](int a, int b) {
    return std::abs(a - code.number) < std::abs(b - code.number);
  });
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min<size_t>(3, numbers.size()); ++i) {
    names.push_back(fmt::format("{}{:04}", code.kind, numbers[i]));
  }
  std::sort(names.begin(), names.end());
  return fmt::format("{}", fmt::join(names, ", "));
}

template <size_t N>
std::string_view meaning_of(const Entry (&entries)[N], const Code& code) {
  for (const Entry& entry : entries) {
    if (entry.number == code.number) return entry.meaning;
  }
  fail(ErrorCode::kBadArgument, "there is no code {}{:04}. Near it: {}. docs/errors.md lists all",
       code.kind, code.number, nearest_codes(entries, code));
}

}  // namespace

std::optional<std::string> code_help(std::string_view text) {
  const std::optional<Code> code = parse_code(text);
  if (!code) return std::nullopt;
  const bool error = code->kind == 'E';
  const std::string_view meaning =
      error ? meaning_of(kErrors, *code) : meaning_of(kWarnings, *code);
  std::string result = fmt::format("{}{:04}: {}\n", code->kind, code->number, meaning);
  result += error ? fmt::format("exit code {}\n", code->number / 100)
                  : std::string("a warning: the program goes on\n");
  return result +
         (error ? error_causes(code->number) : causes_and_remedies(warning_texts(), code->number));
}

}  // namespace sutor
