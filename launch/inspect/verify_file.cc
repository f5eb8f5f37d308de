#include "launch/inspect/verify_file.h"

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hdf5/seal.h"
#include "csrc/base/text/json.h"
#include "launch/data/token_store.h"
#include "layers/esft/score_records.h"
#include "parallel_state/model/expert_config.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// What a file of an older program has no sum for.
std::string against_sum(const fs::path& path, ErrorCode code, const std::string& otherwise) {
  return h5::check_seal(path, code) ? "every byte against the sum that it records" : otherwise;
}

void check_token_store(const fs::path& path, Verification& result) {
  result.kind = "token store";
  const TokenStore store(path);
  result.checked = against_sum(path, ErrorCode::kUnreadableData,
                               "tokens against their checksum; an older program wrote it without "
                               "a sum of all bytes, so changed texts would not show");
  result.checked += "; offsets, counts and largest id";
}

void check_scores(const fs::path& path, Verification& result) {
  if (path.extension() == ".json") {
    result.kind = "expert scores of another tool";
    const ScoreTable table = read_score_table(path);
    result.checked = "its form and its sums; it has no digests, so other scores would not show";
    for (const std::string& remark : remarks_on(table, /*gate=*/false, path.string())) {
      result.checked += "; " + remark;
    }
    return;
  }
  result.kind = "expert scores";
  read_scores(path);
  result.checked = against_sum(path, ErrorCode::kNotScores,
                               "counts against the tokens; an older program wrote it without a "
                               "sum of all bytes, so changed gate sums would not show");
}

void check_config(const fs::path& path, Verification& result) {
  result.kind = "expert config";
  const ExpertConfig config = read_expert_config(path);  // refuses repeated keys too
  const std::string text = read_file(path);
  const nlohmann::json json = parse_json(text).value;
  const std::optional<std::string> changed = changed_record(json, path.string());
  for (const auto& [key, value] : json.items()) {
    if (key == "experts" || key == "shared_experts" || key == "non_expert_modules") continue;
    if (key != "made_from") {
      fail(ErrorCode::kBadExpertConfig, "{}: no expert config has a key `{}`", path.string(), key);
    }
  }
  if (changed && !changed->empty()) {
    fail(ErrorCode::kCorrupted, "{} is damaged, or was edited by a person: {}", path.string(),
         *changed);
  }
  if (changed) {
    const auto made_from = json["made_from"].get<std::map<std::string, std::string>>();
    if (to_json(config, made_from) != text) {
      fail(ErrorCode::kCorrupted, "{} says what `select` wrote, but in other bytes", path.string());
    }
  }
  result.checked = changed ? "experts, flags and what made it against its digests"
                           : "its form; it has no digests, so other experts would not show";
}

}  // namespace

std::optional<FileKind> file_kind(const fs::path& path) {
  if (path.filename().string().ends_with(".tokens.h5")) return FileKind::kTokenStore;
  if (path.extension() == ".h5" || path.filename() == "summary.json") return FileKind::kScores;
  if (path.extension() == ".json") return FileKind::kExpertConfig;
  return std::nullopt;
}

Verification verify_file(const fs::path& path, FileKind kind) {
  Verification result{.path = path.string()};
  result.bytes = is_file(path) ? bytes_of(path) : 0;
  CorruptionList corruption("");
  corruption.check(path, [&] {
    switch (kind) {
      case FileKind::kTokenStore:
        return check_token_store(path, result);
      case FileKind::kScores:
        return check_scores(path, result);
      case FileKind::kExpertConfig:
        return check_config(path, result);
    }
  });
  result.corruption = corruption.take();
  return result;
}

}  // namespace sutor
