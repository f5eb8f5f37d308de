// JSON whose objects must not have a key twice.
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
ParsedJson parse_json(std::string_view text);

}  // namespace sutor
