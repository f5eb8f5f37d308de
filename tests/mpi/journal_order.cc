#include "journal_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

namespace sutor {
namespace {

using nlohmann::json;
using Lines = std::vector<json>;

bool has(const json& ranks, int rank) {
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

// The operations of a rank of the given kind with rank `other`.
std::vector<std::string> shared(const Lines& lines, int other, const std::string& kind) {
  std::vector<std::string> result;
  for (const json& line : lines) {
    if (line["kind"] != kind) continue;
    if (kind == "collective" ? !has(line["ranks"], other) : line["peer"] != other) continue;
    result.push_back(fmt::format("`{}` of {} {} {} #{}", line["name"].get<std::string>(),
                                 line["group"].get<std::string>(), line["ranks"].dump(),
                                 line["ordinal"].dump(),
                                 kind == "collective" ? line["number"].dump() : ""));
  }
  return result;
}

std::string difference(const std::vector<std::string>& a, const std::vector<std::string>& b, int r,
                       int s, const char* what) {
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string left = i < a.size() ? a[i] : "nothing",
                      right = i < b.size() ? b[i] : "nothing";
    if (left == right) continue;
    return fmt::format("{} {} that ranks {} and {} share: {} here, {} there", what, i + 1, r, s,
                       left, right);
  }
  return "";
}

}  // namespace

std::string order_problem(const std::vector<std::string>& logs) {
  std::vector<Lines> ranks(logs.size());
  for (size_t r = 0; r < logs.size(); ++r) {
    std::istringstream text(logs[r]);
    for (std::string line; std::getline(text, line);) ranks[r].push_back(json::parse(line));
  }
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (size_t s = 0; s < ranks.size(); ++s) {
      if (r == s) continue;
      const int here = static_cast<int>(r), there = static_cast<int>(s);
      std::string problem =
          difference(shared(ranks[r], there, "collective"), shared(ranks[s], here, "collective"),
                     here, there, "operation");
      if (!problem.empty()) return problem;
      problem = difference(shared(ranks[r], there, "send"), shared(ranks[s], here, "receive"), here,
                           there, "message");
      if (!problem.empty()) return problem;
    }
  }
  return "";
}

}  // namespace sutor
