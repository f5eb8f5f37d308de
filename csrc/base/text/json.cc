#include "csrc/base/text/json.h"

#include <set>
#include <vector>

namespace sutor {

ParsedJson parse_json(std::string_view text) {
  using Event = nlohmann::json::parse_event_t;
  ParsedJson parsed;
  std::vector<std::set<std::string>> open;  // the keys so far of each object that is not closed
  const auto watch = [&](int, Event event, nlohmann::json& value) {
    if (event == Event::object_start) open.emplace_back();
    if (event == Event::object_end) open.pop_back();
    if (event == Event::key && !open.back().insert(value.get<std::string>()).second &&
        !parsed.repeated_key) {
      parsed.repeated_key = value.get<std::string>();
    }
    return true;
  };
  try {
    parsed.value = nlohmann::json::parse(text, watch);
  } catch (const nlohmann::json::exception& error) {
    parsed.problem = error.what();
    parsed.value = nlohmann::json(nlohmann::json::value_t::discarded);
  }
  return parsed;
}

}  // namespace sutor
