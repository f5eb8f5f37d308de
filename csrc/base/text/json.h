// JSON of strangers: bounded, and with the keys that stand twice told; and JSON that can always be
// written.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace sutor {

// A text that was parsed. Of keys that stand twice in an object the value keeps only the last, so
// the first such key is told beside it: who cares refuses the text.
struct ParsedJson {
  nlohmann::json value;  // discarded when the text is not valid JSON
  std::string problem;   // why it is not; empty when it is
  std::optional<std::string> repeated_key;
};
// Refuses what is nested deeper than 128 or has more than 2^24 values, before memory is taken for
// them: whoever walks through the value may do so by recursion.
ParsedJson parse_json(std::string_view text);

// As value.dump(indent), but bytes that are not UTF-8 (of a path, a host's name, the command line)
// are replaced by U+FFFD instead of being an exception.
std::string dump_json(const nlohmann::json& value, int indent = -1);
std::string dump_json(const nlohmann::ordered_json& value, int indent = -1);

}  // namespace sutor
