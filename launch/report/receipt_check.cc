#include "launch/report/receipt_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/text/json.h"
#include "launch/data/rows/sha256.h"
#include "launch/inspect/verify_artifact.h"
#include "launch/model/model_source.h"
#include "launch/report/receipt.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kRepair =
    "Fetch it again from where the run was made; after another training, or an export, "
    "`sutor report FOLDER --receipt` writes a receipt of what there is now.";

// A value of an entry; one that is missing or ill-typed makes the receipt none.
template <typename Value>
Value value_in(const json& entry, const char* key) {
  try {
    return entry.at(key).get<Value>();
  } catch (const json::exception& error) {
    fail(ErrorCode::kBadManifest, "an entry of `artifacts` is malformed: {}", error.what());
  }
}

class ReceiptCheck {
 public:
  ReceiptCheck(const fs::path& path, int threads, Verification& result)
      : folder_(parent_of(path)), threads_(threads), result_(result) {}

  void entry(const json& entry) {
    const fs::path path = folder_ / value_in<std::string>(entry, "path");
    corruption_.check(path, [&] {
      if (entry.contains("weights")) return weights(path, entry);
      if (entry.contains("sha256")) return file(path, value_in<std::string>(entry, "sha256"));
      folder(path, entry);
    });
    counts_[value_in<std::string>(entry, "role")] += 1;
  }

  CorruptionList& corruption() { return corruption_; }

  // "base 1, checkpoint 2, ..."
  std::string counts() const {
    std::string text;
    for (const auto& [role, count] : counts_) {
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", role, count);
    }
    return text;
  }

 private:
  void differs(const fs::path& path, const std::string& expected, const std::string& found) {
    corruption_.add({.code = ErrorCode::kCorrupted,
                     .file = path.string(),
                     .expected = expected + " (receipt)",
                     .found = found});
  }

  void file(const fs::path& path, const std::string& expected) {
    if (!is_file(path)) return differs(path, "sha256:" + expected, "no such file");
    const std::string found = sha256_of_file(path);
    result_.bytes += bytes_of(path);
    if (found != "sha256:" + expected) differs(path, "sha256:" + expected, found);
  }

  void folder(const fs::path& path, const json& entry) {
    if (!is_folder(path)) return differs(path, "a folder", "no such folder");
    if (!entry.contains("manifest")) {
      for (const auto& [name, sum] : value_in<std::map<std::string, std::string>>(entry, "files")) {
        file(path / name, sum);
      }
      return;
    }
    file(path / value_in<std::string>(entry, "manifest"),
         value_in<std::string>(entry, "manifest_sha256"));
    const ArtifactKind kind = artifact_kind(path);
    if (kind == ArtifactKind::kOther || kind == ArtifactKind::kCheckpointFolder) {
      return differs(path, "a " + value_in<std::string>(entry, "role"), std::string(name_of(kind)));
    }
    const Verification inside = verify_artifact(path, kind, threads_);
    result_.bytes += inside.bytes;
    result_.tensors += inside.tensors;
    for (const Corruption& found : inside.corruption) corruption_.add(found);
  }

  void weights(const fs::path& path, const json& entry) {
    const ModelSource source(path, value_in<std::vector<std::string>>(entry, "adapters"));
    const std::string expected = value_in<std::string>(entry, "weights");
    const std::string found = source.digest(threads_).text();
    result_.tensors += static_cast<int64_t>(source.info.tensors.size());
    if (found != expected) differs(path, expected, found);
  }

  fs::path folder_;
  int threads_;
  Verification& result_;
  CorruptionList corruption_{kRepair};
  std::map<std::string, int> counts_;
};

json read_receipt(const fs::path& path, Verification& result) {
  const std::string text = read_file(path);
  result.bytes = static_cast<int64_t>(text.size());
  ParsedJson parsed = parse_json(text);
  const json& receipt = parsed.value;
  if (!parsed.problem.empty() || !receipt.is_object() ||
      receipt.value("format", json()) != kReceiptFormat) {
    fail(ErrorCode::kBadManifest, "{} is no receipt of sutor: {}", path.string(),
         parsed.problem.empty() ? "its `format` is not \"sutor.receipt\"" : parsed.problem);
  }
  if (receipt.value("version", json()) != kReceiptVersion) {
    fail(ErrorCode::kUnknownVersion, "{} is a receipt of version {}; this program reads version {}",
         path.string(), dump_json(receipt.value("version", json())), kReceiptVersion);
  }
  if (parsed.repeated_key || receipt.value("digest", json()) != receipt_digest(receipt) ||
      !receipt.contains("artifacts") || !receipt["artifacts"].is_array()) {
    fail(ErrorCode::kBadManifest,
         "{} was changed after it was written: its text does not have the digest that it records",
         path.string());
  }
  return std::move(parsed.value);
}

}  // namespace

bool is_receipt(const fs::path& path) {
  return path.filename().string().ends_with(kReceiptFile) && is_file(path);
}

Verification verify_receipt(const fs::path& path, int threads) {
  Verification result{.kind = "receipt", .path = path.string()};
  ReceiptCheck check(path, threads, result);
  check.corruption().check(path, [&] {
    const json receipt = read_receipt(path, result);
    for (const json& entry : receipt["artifacts"]) check.entry(entry);
  });
  result.checked = "its own digest; every byte of what it lists: " + check.counts();
  result.corruption = check.corruption().take();
  return result;
}

}  // namespace sutor
