// What `sutor run` remembers of finished steps, in OUTPUT/stages.json: a step is still valid when
// its outputs exist and came of the same inputs, the same recipe keys and the same format version
// (step_fingerprint.h).
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "csrc/base/hash.h"
#include "recipes/recipe_steps.h"

namespace sutor {

class StepLedger {
 public:
  // A file that is corrupt counts as empty: the steps are then done again. Throws E0301 when it
  // cannot be read.
  explicit StepLedger(std::filesystem::path path);

  // outputs: files or folders that must exist.
  bool valid(RecipeStep step, const Digest& fingerprint,
             const std::vector<std::filesystem::path>& outputs) const;
  // Whether it says of the step that it finished, be it of other inputs.
  bool knows(RecipeStep step) const { return entries_.contains(std::string(name_of(step))); }
  // Both are on the disk when they return. A step that was started and did not finish is not valid,
  // whatever it had been before: its outputs may be half of the one and half of the other.
  void started(RecipeStep step);
  void finished(RecipeStep step, const Digest& fingerprint);

 private:
  void write() const;

  std::filesystem::path path_;
  nlohmann::json entries_ = nlohmann::json::object();
};

}  // namespace sutor
