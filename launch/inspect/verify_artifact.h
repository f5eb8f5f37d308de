// Verifies a folder of any kind that sutor knows, with the names and shapes that its model has.
#pragma once

#include <filesystem>

#include "checkpoint/compare/artifact_kind.h"
#include "checkpoint/compare/verification.h"

namespace sutor {

// Reads all of it. `kind`: of the path, but for a folder of checkpoints. threads: 0 = all.
Verification verify_artifact(const std::filesystem::path& path, ArtifactKind kind, int threads);

}  // namespace sutor
