#include "launch/steps/step_ledger.h"

#include "csrc/base/directory.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"

namespace sutor {

StepLedger::StepLedger(std::filesystem::path path) : path_(std::move(path)) {
  if (!is_there(path_)) return;
  nlohmann::json read = parse_json(read_file(path_)).value;
  if (read.is_object()) entries_ = std::move(read);
}

bool StepLedger::valid(RecipeStep step, const Digest& fingerprint,
                       const std::vector<std::filesystem::path>& outputs) const {
  const auto entry = entries_.find(std::string(name_of(step)));
  if (entry == entries_.end() || *entry != fingerprint.text()) return false;
  for (const std::filesystem::path& output : outputs) {
    if (!is_there(output)) return false;
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

void StepLedger::write() const { write_file_atomic(path_, dump_json(entries_, 2) + "\n"); }

}  // namespace sutor
