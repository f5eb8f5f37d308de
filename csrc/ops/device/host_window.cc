#include "csrc/ops/device/host_window.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include "csrc/base/error.h"

namespace sutor::ops {
namespace {

at::Tensor host_like(const at::Tensor& tensor) {
  const auto options = at::TensorOptions().dtype(tensor.scalar_type());
  return at::empty(tensor.sizes(), options.pinned_memory(tensor.is_cuda()));
}

}  // namespace

at::Tensor to_device(const at::Tensor& host, at::Device device) {
  if (device.is_cpu()) return host;
  if (!device.is_cuda()) return host.to(device);
  const at::Tensor pinned = at::empty(host.sizes(), host.options().pinned_memory(true));
  pinned.copy_(host);
  return pinned.to(device, /*non_blocking=*/true);
}

at::Tensor longs_on(const std::vector<int64_t>& values, at::Device device) {
  return to_device(at::tensor(values, at::kLong), device);
}

bool is_in_host_memory(const at::Tensor& tensor) { return tensor.device().is_cpu(); }

HostWindow::HostWindow(const at::Tensor& tensor, Use use) : tensor_(tensor) {
  SUTOR_ASSERT(tensor.is_contiguous());
  host_ = is_in_host_memory(tensor) ? tensor : host_like(tensor);
  if (use == Use::kRead && !host_.is_same(tensor_)) host_.copy_(tensor_);
}

std::span<std::byte> HostWindow::bytes() const {
  return {static_cast<std::byte*>(host_.data_ptr()), host_.nbytes()};
}

void HostWindow::commit() {
  if (!host_.is_same(tensor_)) tensor_.copy_(host_);
}

}  // namespace sutor::ops
