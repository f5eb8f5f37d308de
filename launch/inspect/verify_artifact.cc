#include "launch/inspect/verify_artifact.h"

#include <optional>

#include "csrc/base/error.h"
#include "launch/model/model_config.h"

namespace sutor {
namespace {

// What the family makes of config.json; nothing for an unknown family, or when config.json cannot
// be read, which the check of the files then reports.
std::optional<ModelInfo> model_info(const std::filesystem::path& path) {
  try {
    return read_model_info(path);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

Verification verify_artifact(const std::filesystem::path& path, ArtifactKind kind, int threads) {
  if (kind == ArtifactKind::kCheckpoint) return verify_checkpoint(path, threads);
  if (kind == ArtifactKind::kPeftAdapter) return verify_peft_adapter(path, threads);
  const std::optional<ModelInfo> model = model_info(path);
  const TensorMap* tensors = model ? &model->tensors : nullptr;
  if (kind == ArtifactKind::kAdapter) return verify_adapter_files(path, threads, tensors);
  return kind == ArtifactKind::kBaseStore ? verify_base_store(path, tensors, threads)
                                          : verify_model(path, tensors, threads);
}

}  // namespace sutor
