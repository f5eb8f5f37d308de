// Gradient clipping: the norm of all gradients, and their scaling to a limit.
#pragma once

#include <vector>

#include "csrc/comm/comm.h"
#include "layers/optim/flat_buffer.h"

namespace sutor {

// The L2 norm over all trainable parameters of all ranks, each counted once: every element is in
// the chunk of exactly one rank. After the reductions were finished. The same bits at any number of
// threads. Collective over `world`.
double gradient_norm(const std::vector<FlatBuffer*>& buffers, Comm& world);

// Scales the gradients of this rank's chunks so that a norm above `limit` becomes `limit`; 0: no
// limit.
void clip_gradients(const std::vector<FlatBuffer*>& buffers, double norm, double limit);

}  // namespace sutor
