#include "tests/fuzz/targets.h"

namespace sutor::fuzz {

const std::vector<const FuzzTarget*>& all_targets() {
  static const std::vector<const FuzzTarget*> targets = {
      &kAdapterManifest, &kCheckpointManifest, &kExpertConfig, &kHfIndex,
      &kRecipe,          &kSafetensors,        &kScores,       &kState,
      &kStoreIndex,      &kStoreManifest,      &kTileIndex,    &kTokenStore};
  return targets;
}

const FuzzTarget* target_named(std::string_view name) {
  for (const FuzzTarget* target : all_targets()) {
    if (name == target->name) return target;
  }
  return nullptr;
}

}  // namespace sutor::fuzz
