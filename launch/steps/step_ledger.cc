#include "launch/steps/step_ledger.h"

#include "csrc/base/file.h"

namespace sutor {

StepLedger::StepLedger(std::filesystem::path path) : path_(std::move(path)) {
  if (!std::filesystem::exists(path_)) return;
  nlohmann::json read =
      nlohmann::json::parse(read_file(path_), nullptr, /*allow_exceptions=*/false);
  if (read.is_object()) entries_ = std::move(read);
}

bool StepLedger::valid(RecipeStep step, const Digest& fingerprint,
                       const std::vector<std::filesystem::path>& outputs) const {
  const auto entry = entries_.find(std::string(name_of(step)));
  if (entry == entries_.end() || *entry != fingerprint.text()) return false;
  for (const std::filesystem::path& output : outputs) {
    if (!std::filesystem::exists(output)) return false;
  }
  return true;
}

void StepLedger::started(RecipeStep step) {
  if (entries_.erase(std::string(name_of(step))) > 0) write();
}

void StepLedger::finished(RecipeStep step, const Digest& fingerprint) {
  entries_[std::string(name_of(step))] = fingerprint.text();
  write();
}

void StepLedger::write() const { write_file_atomic(path_, entries_.dump(2) + "\n"); }

}  // namespace sutor
