#include "launch/inspect/verify_file.h"

#include "csrc/base/error.h"
#include "csrc/base/hdf5/seal.h"
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
  result.kind = "expert scores";
  read_scores(path);
  result.checked = against_sum(path, ErrorCode::kNotScores,
                               "counts against the tokens; an older program wrote it without a "
                               "sum of all bytes, so changed gate sums would not show");
}

void check_config(const fs::path& path, Verification& result) {
  result.kind = "expert config";
  read_expert_config(path);
  result.checked = "its form; there is no recorded digest, so other experts would not show";
}

}  // namespace

std::optional<FileKind> file_kind(const fs::path& path) {
  if (path.filename().string().ends_with(".tokens.h5")) return FileKind::kTokenStore;
  if (path.extension() == ".h5") return FileKind::kScores;
  if (path.extension() == ".json") return FileKind::kExpertConfig;
  return std::nullopt;
}

Verification verify_file(const fs::path& path, FileKind kind) {
  Verification result{.path = path.string()};
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  result.bytes = error ? 0 : static_cast<int64_t>(bytes);
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
