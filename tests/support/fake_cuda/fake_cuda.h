// Stand-ins for CUDA's run-time library and NCCL on machines without a GPU, linked instead of them:
// ranks are threads of one process, memory of the device is memory of the host that is remembered
// as such, a stream does at once what it is given. NCCL's operations wait for each other as the
// real ones do and refuse what those refuse: memory of the host, ranges beyond an allocation, ranks
// that do not ask for the same.
#pragma once

#include <cstddef>

namespace sutor::testing {

// Whether the whole range lies in one allocation of cudaMalloc.
bool in_fake_device_memory(const void* data, size_t bytes);

}  // namespace sutor::testing
