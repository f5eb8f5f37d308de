// The collectives that take more than one call of NCCL. They only enqueue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "csrc/comm/nccl/nccl_calls.h"

namespace sutor::nccl {

// A communicator of NCCL, as one of its ranks sees it, and the stream of its operations.
struct Channel {
  ncclComm_t comm = nullptr;
  int rank = 0;
  cudaStream_t stream = nullptr;
};

// The buffers are those of Comm, in device memory.
void reduce_scatter(const Channel& channel, float* data, std::span<const int64_t> counts,
                    const char* name);
void all_gather(const Channel& channel, std::byte* data, std::span<const int64_t> bytes,
                const char* name);
// Enqueues nothing on a rank without rows; the other ranks' NCCL does not miss it.
void all_to_all(const Channel& channel, const std::byte* send, std::span<const int64_t> send_rows,
                std::byte* recv, std::span<const int64_t> recv_rows, int64_t row_bytes,
                const char* name);

}  // namespace sutor::nccl
