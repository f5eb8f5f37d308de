// state.h5: the training state without tensors. Root attributes: format, format_version,
// checkpoint_step, and one JSON text for each key of CheckpointMeta::state (schedule, cursor, ...).
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "checkpoint/format/manifest.h"
#include "csrc/base/hash.h"

namespace sutor {

struct WrittenState {
  int64_t bytes = 0;
  Digest digest;  // of the whole file, as it was meant
};
// Writes a new file, fsyncs it and compares it with memory. Throws E0501 or E0502.
WrittenState write_state_file(const std::filesystem::path& path, const CheckpointMeta& meta);
// The state object. Throws E0347 when the file is not a state file or is of another step.
nlohmann::json read_state_file(const std::filesystem::path& path, int64_t step);

}  // namespace sutor
