// What `sutor run` remembers of finished stages, in OUTPUT/stages.json: a stage is still valid when
// its outputs exist and came of the same inputs, the same recipe keys and the same format version.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "csrc/base/hash.h"
#include "recipes/recipe_reader.h"

namespace sutor {

class StageLedger {
 public:
  explicit StageLedger(std::filesystem::path path);

  // fingerprint: of inputs and keys, see below. outputs: files or folders that must exist.
  bool valid(Stage stage, const Digest& fingerprint,
             const std::vector<std::filesystem::path>& outputs) const;
  // Remembers it, on disk at once.
  void finished(Stage stage, const Digest& fingerprint);

 private:
  std::filesystem::path path_;
  nlohmann::json entries_ = nlohmann::json::object();
};

// Of the stage's keys and the content of its input files (a file that is not there counts as such).
Digest stage_fingerprint(const std::string& keys, const std::vector<std::filesystem::path>& inputs,
                         const std::vector<std::string>& digests);

}  // namespace sutor
