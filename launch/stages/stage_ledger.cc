#include "launch/stages/stage_ledger.h"

#include "csrc/base/file.h"

namespace sutor {
namespace {

constexpr int64_t kStageFormat = 1;  // counts up whenever what a stage writes changes

}  // namespace

StageLedger::StageLedger(std::filesystem::path path) : path_(std::move(path)) {
  if (!std::filesystem::exists(path_)) return;
  nlohmann::json read =
      nlohmann::json::parse(read_file(path_), nullptr, /*allow_exceptions=*/false);
  if (read.is_object())
    entries_ = std::move(read);  // an unreadable ledger only means doing it again
}

bool StageLedger::valid(Stage stage, const Digest& fingerprint,
                        const std::vector<std::filesystem::path>& outputs) const {
  const auto entry = entries_.find(std::string(name_of(stage)));
  if (entry == entries_.end() || *entry != fingerprint.text()) return false;
  for (const std::filesystem::path& output : outputs) {
    if (!std::filesystem::exists(output)) return false;
  }
  return true;
}

void StageLedger::finished(Stage stage, const Digest& fingerprint) {
  entries_[std::string(name_of(stage))] = fingerprint.text();
  write_file_atomic(path_, entries_.dump(2) + "\n");
}

Digest stage_fingerprint(const std::string& keys, const std::vector<std::filesystem::path>& inputs,
                         const std::vector<std::string>& digests) {
  Hasher hasher;
  hasher.update_int(kStageFormat);
  hasher.update(keys);
  for (const std::filesystem::path& input : inputs) {
    const bool there = std::filesystem::is_regular_file(input);
    hasher.update(there ? xxh3(read_file(input)).text() : "absent");
  }
  for (const std::string& digest : digests) hasher.update(digest + "\n");
  return hasher.digest();
}

}  // namespace sutor
