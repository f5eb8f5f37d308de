// A training that begins from a checkpoint of another one (`train --from`), in an output of its own
// and under keys of its own. For rank 0: it reads the disk.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "launch/log/run_paths.h"

namespace sutor {

// What a fork keeps of its parent, in its checkpoints (TrainState::fork) and in fork.json:
//   {"from": step directory, absolute; "step": its step; "manifest": digest of its MANIFEST.json}
// and, once it has begun, "takes": "weights" | "weights and moments".
// Throws E0341..E0344 for a folder that is no whole checkpoint.
nlohmann::json fork_origin(const std::filesystem::path& checkpoint);

// What a training of `paths` begins from: null when it is no fork, or goes on from a checkpoint of
// its own. from: --from, may be empty. resume: an unfinished training goes on, also one that has
// not come to its first checkpoint. Throws E0202 for a parent inside the output, E0221 when the
// training that goes on is no fork of `from`.
nlohmann::json fork_to_begin(const RunPaths& paths, const std::string& from, bool resume);

// Throws E0305, naming both digests, when the parent has another base than this training.
void check_parent_base(const nlohmann::json& origin, const std::string& base);
// The same, and throws E0350 or E0221 when the parent trains other parameters or
// scales its low-rank pairs in another way. base, plan: digests of this training;
// lora: its TrainState::lora.
void check_parent(const nlohmann::json& origin, const std::string& base, const std::string& plan,
                  const nlohmann::json& lora);

// "run/checkpoints/step-00000040 (step 40, manifest xxh3:...)"
std::string fork_text(const nlohmann::json& origin);

}  // namespace sutor
