// What may stand in a run directory: plain files and folders under the names that sutor gives, so
// that nothing outside is written through a link, and nothing of another program is deleted.
#pragma once

#include "launch/log/run_paths.h"

namespace sutor {

// Throws E0220 when one of our names in the run directory is a link, a device or the like. The run
// directory itself may be a link.
void require_plain_contents(const RunPaths& paths);

// Throws E0220, naming it, when checkpoints/, tensorboard/, metrics.jsonl or eval.jsonl hold
// something that a training of sutor does not make. Such things are never deleted or moved.
void require_own_training(const RunPaths& paths);

}  // namespace sutor
