// Sends and receives rows between the stages of a pipeline.
#pragma once

#include <ATen/core/Tensor.h>

#include "csrc/comm/comm.h"

namespace sutor {

// Returns at once; the rows stay alive until they have been sent.
void send_to_stage(const at::Tensor& rows, int stage, Comm& pipeline, const char* name);
// Fills `rows`, whose size must be that of the rows that were sent.
void receive_from_stage(const at::Tensor& rows, int stage, Comm& pipeline, const char* name);

}  // namespace sutor
