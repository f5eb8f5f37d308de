// What people get wrong in YAML, found again in a text that its parser refuses: tabs, indentation,
// quotes and brackets that nobody closes, colons without a space. Parsers name the place where they
// gave up, which is often elsewhere, and what they waited for there.
#pragma once

#include <optional>
#include <string>

namespace sutor {

struct YamlFault {
  int line = 0, column = 0;  // from 1; where it is, not where the parser stopped
  std::string what;          // a sentence and its remedy
};

// `line`, `column`: where the parser stopped, from 1. `message`: its own. Nothing when the text
// does not show the cause; works on any bytes.
std::optional<YamlFault> yaml_fault(const std::string& text, int line, int column,
                                    const std::string& message);

}  // namespace sutor
