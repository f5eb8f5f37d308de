#include "launch/cli/token_ids.h"

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

constexpr int64_t kMaxIdsBytes = int64_t{256} << 20;

}  // namespace

std::vector<std::vector<int64_t>> read_token_ids(const std::string& path, const char* what) {
  const ParsedJson parsed = parse_json(read_file(path, kMaxIdsBytes));
  const auto refuse = [&](const std::string& found) {
    fail(ErrorCode::kBadTokenIds, "{}: expected a list of lists of token ids: {}", path, found);
  };
  if (!parsed.problem.empty()) refuse(parsed.problem);
  if (!parsed.value.is_array()) refuse(fmt::format("found {}", parsed.value.type_name()));
  std::vector<std::vector<int64_t>> rows;
  for (const nlohmann::json& row : parsed.value) {
    if (!row.is_array()) refuse(fmt::format("row {} is {}", rows.size(), row.type_name()));
    std::vector<int64_t>& ids = rows.emplace_back();
    for (const nlohmann::json& id : row) {
      if (!id.is_number_integer() || id < 0 || id > INT32_MAX) {
        refuse(fmt::format("row {} holds {}", rows.size() - 1, dump_json(id)));
      }
      ids.push_back(id.get<int64_t>());
    }
  }
  if (rows.empty()) fail(ErrorCode::kBadTokenIds, "{} holds no {}", path, what);
  return rows;
}

}  // namespace sutor
