#include "csrc/base/text/json.h"

#include <set>
#include <vector>

namespace sutor {
namespace {

constexpr int kMaxDepth = 128;
constexpr int64_t kMaxValues = int64_t{1} << 24;

struct TooMuch {
  const char* what;
};

}  // namespace

ParsedJson parse_json(std::string_view text) {
  using Event = nlohmann::json::parse_event_t;
  ParsedJson parsed;
  std::vector<std::set<std::string>> open;  // the keys so far of each object that is not closed
  int64_t values = 0;
  const auto watch = [&](int depth, Event event, nlohmann::json& value) {
    if (depth >= kMaxDepth) throw TooMuch{"it is nested deeper than 128"};
    if (++values > kMaxValues) throw TooMuch{"it has more than 16,777,216 values"};
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
    return parsed;
  } catch (const nlohmann::json::exception& error) {
    parsed.problem = error.what();
  } catch (const TooMuch& error) {
    parsed.problem = error.what;
  }
  parsed.value = nlohmann::json(nlohmann::json::value_t::discarded);
  return parsed;
}

std::string dump_json(const nlohmann::json& value, int indent) {
  return value.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string dump_json(const nlohmann::ordered_json& value, int indent) {
  return value.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace sutor
