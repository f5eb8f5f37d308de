// The kind of artifact at a path, among those that sutor reads and writes: decided by file names
// only, whether the artifact is sound or not; but a folder with both config.json and
// expert_cfg.json is a model when it has all tensors of one.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace sutor {

enum class ArtifactKind {
  kBaseStore,
  kModelDirectory,    // with config.json
  kCheckpoint,        // step-00000100/
  kCheckpointFolder,  // contains such; or a run's folder, which contains one as checkpoints/
  kAdapter,           // with expert_cfg.json, be it what a trainer of transformers left
  kPeftAdapter,       // with adapter_config.json
  kOther,
};

std::string_view name_of(ArtifactKind kind);  // "base store"

// Throws E0301 when a folder cannot be listed.
ArtifactKind artifact_kind(const std::filesystem::path& path);

// The folder that holds the step directories of a kCheckpointFolder.
std::filesystem::path steps_folder(const std::filesystem::path& path);
// The step directories, by rising step, complete or not.
std::vector<std::filesystem::path> steps_below(const std::filesystem::path& path);

}  // namespace sutor
