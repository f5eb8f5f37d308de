// Gradient clipping: the norm of all gradients, and their scaling to a limit.
#pragma once

#include <vector>

#include "csrc/comm/comm.h"
#include "layers/optim/flat_buffer.h"

namespace sutor {

// The sum of the squares of this rank's chunks, a double scalar where the gradients are, after the
// reductions were finished. Every trainable element is in the chunk of exactly one rank. The same
// bits at any number of threads.
at::Tensor squared_gradients(const std::vector<FlatBuffer*>& buffers);

// The L2 norm over all trainable parameters of all ranks, from this rank's sum of squares.
// Collective over `world`.
double gradient_norm(double squares, Comm& world);

// Scales the gradients of this rank's chunks so that a norm above `limit` becomes `limit`; 0: no
// limit.
void clip_gradients(const std::vector<FlatBuffer*>& buffers, double norm, double limit);

}  // namespace sutor
