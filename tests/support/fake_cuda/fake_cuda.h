// Stand-ins for CUDA's run-time library and NCCL on machines without a GPU, linked instead of them:
// ranks are threads of one process, device memory is host memory that is marked as such, and a
// stream executes its work at once. The operations of NCCL wait for each other as the real ones do
// and refuse what those refuse: host memory, ranges beyond an allocation, ranks with different
// operations.
#pragma once

#include <cstddef>

namespace sutor::testing {

// Whether the whole range lies in one allocation of cudaMalloc.
bool in_fake_device_memory(const void* data, size_t bytes);

}  // namespace sutor::testing
