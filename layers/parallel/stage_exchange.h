// Rows on their way between the stages of a pipeline.
#pragma once

#include <ATen/core/Tensor.h>

#include "csrc/comm/comm.h"

namespace sutor {

// Returns at once; the rows are kept until they have left.
void send_to_stage(const at::Tensor& rows, int stage, Comm& pipeline, const char* name);
// Fills `rows`, which has the size of what was sent.
void receive_from_stage(const at::Tensor& rows, int stage, Comm& pipeline, const char* name);

}  // namespace sutor
