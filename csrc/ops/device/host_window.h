// Between tensors on a device and the host: uploads of small tensors, and windows through which
// files are read into a tensor and written from it. For tensors in host memory all of it is the
// memory itself, without a copy.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sutor::ops {

// Bytes of one window: enough for a copy at full speed, few beside the memory of a host.
inline constexpr int64_t kWindowBytes = int64_t{64} << 20;

// The CPU tensor's values on a device, through pinned memory where the device is a GPU; returns at
// once. The tensor itself when the device is the CPU.
at::Tensor to_device(const at::Tensor& host, at::Device device);

// The same of numbers: int64 [values].
at::Tensor longs_on(const std::vector<int64_t>& values, at::Device device);

// Whether the host reads the tensor's memory: then a window on it costs nothing.
bool is_in_host_memory(const at::Tensor& tensor);

// The values of a contiguous tensor as bytes in host memory.
class HostWindow {
 public:
  enum class Use {
    kRead,  // the bytes are the tensor's values
    kFill,  // the bytes are to be filled; commit() brings them to the tensor
  };
  HostWindow(const at::Tensor& tensor, Use use);
  std::span<std::byte> bytes() const;
  void commit();

 private:
  at::Tensor tensor_, host_;
};

}  // namespace sutor::ops
