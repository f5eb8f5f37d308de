// The table of targets. A new one: its file in targets/, and a line in each of targets.h,
// targets.cc and the list of tests/fuzz/CMakeLists.txt.
#pragma once

#include "tests/fuzz/fuzz_target.h"

namespace sutor::fuzz {

extern const FuzzTarget kAdapterManifest;
extern const FuzzTarget kCheckpointManifest;
extern const FuzzTarget kExpertConfig;
extern const FuzzTarget kHfIndex;
extern const FuzzTarget kRecipe;
extern const FuzzTarget kSafetensors;
extern const FuzzTarget kScores;
extern const FuzzTarget kState;
extern const FuzzTarget kStoreIndex;
extern const FuzzTarget kStoreManifest;
extern const FuzzTarget kTileIndex;
extern const FuzzTarget kTokenStore;

const std::vector<const FuzzTarget*>& all_targets();
// Null for a name that none has.
const FuzzTarget* target_named(std::string_view name);

}  // namespace sutor::fuzz
