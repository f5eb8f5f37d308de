#include "checkpoint/compare/artifact_kind.h"

#include <map>

#include "checkpoint/export/adapter_folder.h"
#include "checkpoint/export/peft_adapter.h"
#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/store/store_manifest.h"
#include "csrc/base/directory.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

std::map<int64_t, fs::path> steps_in(const fs::path& folder) {
  std::map<int64_t, fs::path> steps;
  for (const fs::path& entry : entries_of(folder)) {
    const auto step = parse_step_directory(entry.filename().string());
    if (step && is_folder(entry)) steps[*step] = entry;
  }
  return steps;
}

}  // namespace

std::string_view name_of(ArtifactKind kind) {
  switch (kind) {
    case ArtifactKind::kBaseStore:
      return "base store";
    case ArtifactKind::kModelDirectory:
      return "model directory";
    case ArtifactKind::kCheckpoint:
      return "partial checkpoint";
    case ArtifactKind::kCheckpointFolder:
      return "folder of checkpoints";
    case ArtifactKind::kAdapter:
      return "adapter";
    case ArtifactKind::kPeftAdapter:
      return "peft adapter";
    case ArtifactKind::kOther:
      break;
  }
  return "nothing that sutor knows";
}

ArtifactKind artifact_kind(const fs::path& path) {
  if (!is_folder(path)) return ArtifactKind::kOther;
  if (is_base_store(path)) return ArtifactKind::kBaseStore;
  if (is_adapter(path)) return ArtifactKind::kAdapter;
  if (is_there(path / "config.json")) return ArtifactKind::kModelDirectory;
  if (parse_step_directory(path.filename().string()) || is_there(path / kManifestFile)) {
    return ArtifactKind::kCheckpoint;
  }
  if (is_there(path / kPeftConfigFile)) return ArtifactKind::kPeftAdapter;
  if (!steps_in(steps_folder(path)).empty()) return ArtifactKind::kCheckpointFolder;
  return ArtifactKind::kOther;
}

fs::path steps_folder(const fs::path& path) {
  const bool is_run_folder = steps_in(path).empty() && is_folder(path / "checkpoints");
  return is_run_folder ? path / "checkpoints" : path;
}

std::vector<fs::path> steps_below(const fs::path& path) {
  std::vector<fs::path> steps;
  for (const auto& [step, folder] : steps_in(steps_folder(path))) steps.push_back(folder);
  return steps;
}

}  // namespace sutor
