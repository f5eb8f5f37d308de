// The choice of a checkpoint by the ranks of a job, and its weights in their session.
#pragma once

#include "csrc/comm/comm.h"
#include "launch/checkpoints/choose_checkpoint.h"
#include "launch/model/session.h"

namespace sutor {

// choose_checkpoint() by rank 0, told to all. Collective.
ChosenCheckpoint choose_for_all(Comm& world, const std::filesystem::path& checkpoints,
                                const std::string& which,
                                WorseThanBase rule = WorseThanBase::kRefused);

// Replaces the session's weights by those of the checkpoint; nothing happens without one. Throws
// E0305 when it belongs to another base. Collective.
void apply_checkpoint(const ChosenCheckpoint& chosen, Session& session);

}  // namespace sutor
