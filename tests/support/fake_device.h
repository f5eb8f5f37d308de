// A device of its own whose memory is the host's (torch's PrivateUse1): operations that mix its
// tensors with the CPU's throw, and what the host reads is counted. It shows on any machine that a
// model keeps its tensors where they belong; it has no streams and no speed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace sutor::testing {

// The device; the first call makes it known to torch.
at::Device fake_device();

// Copies from it to the CPU, and values that the host asked for, of this thread since it began.
int64_t host_reads();

}  // namespace sutor::testing
