#include "tests/support/fake_device.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "csrc/base/error.h"

namespace sutor::testing {
namespace {

constexpr at::DeviceType kType = at::DeviceType::PrivateUse1;

thread_local int64_t reads = 0;

class Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    void* data = size == 0 ? nullptr : std::aligned_alloc(64, (size + 63) / 64 * 64);
    return {data, data, &std::free, at::Device(kType, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t count) const override {
    std::memcpy(to, from, count);
  }
};
Allocator allocator;
REGISTER_ALLOCATOR(kType, &allocator);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device) const override { return {kType, 0}; }
  c10::Device getDevice() const override { return {kType, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
};

bool is_fake(const at::Tensor& tensor) { return tensor.defined() && tensor.is_privateuseone(); }

// The same memory as a tensor of the CPU, and back.
at::Tensor on_cpu(const at::Tensor& tensor) {
  if (!is_fake(tensor)) return tensor;
  void* data = tensor.numel() == 0 ? nullptr : tensor.data_ptr();
  return at::from_blob(
      data, tensor.sizes(), tensor.strides(), [tensor](void*) {},
      tensor.options().device(at::kCPU));
}
at::Tensor on_fake(const at::Tensor& tensor) {
  if (!tensor.defined() || is_fake(tensor)) return tensor;
  c10::DataPtr data(
      tensor.data_ptr(), new at::Tensor(tensor),
      [](void* context) { delete static_cast<at::Tensor*>(context); }, at::Device(kType, 0));
  const auto bytes = static_cast<int64_t>(
      at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.element_size()));
  c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, std::move(data), &allocator, false);
  at::Tensor result = at::detail::make_tensor<at::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), tensor.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides());
  return result;
}

// Two kinds of device in one operation; a scalar tensor of the CPU is allowed, as on any device.
void check_not_mixed(const c10::OperatorHandle& op, const at::Tensor& tensor) {
  if (!tensor.defined() || is_fake(tensor) || tensor.dim() == 0) return;
  TORCH_CHECK(false, "tensors of two devices in one operation: ", op.schema().name());
}

// Any operation of ATen: on the same memory as tensors of the CPU. Results are this device's.
void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const size_t count = schema.arguments().size();
  const size_t first = stack->size() - count;
  std::vector<at::Tensor> written(count);  // by argument, those that the operation writes
  for (size_t i = 0; i < count; ++i) {
    c10::IValue& value = (*stack)[first + i];
    const auto* alias = schema.arguments()[i].alias_info();
    if (value.isTensor()) {
      const at::Tensor tensor = value.toTensor();
      check_not_mixed(op, tensor);
      const bool is_written = alias && alias->isWrite();
      if (is_written) written[i] = tensor;
      // Operations give an empty result the size that it needs.
      const bool grows = is_written && tensor.defined() && tensor.numel() == 0;
      value = grows ? at::empty(tensor.sizes(), tensor.options().device(at::kCPU)) : on_cpu(tensor);
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) {
        check_not_mixed(op, tensor);
        list.push_back(on_cpu(tensor));
      }
      value = std::move(list);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
        list.push_back(tensor ? std::optional(on_cpu(*tensor)) : std::nullopt);
      }
      value = std::move(list);
    } else if (value.isDevice()) {
      value = at::Device(at::kCPU);
    }
  }
  std::vector<at::Tensor> cpu_written(count);
  for (size_t i = 0; i < count; ++i) {
    if (written[i].defined()) cpu_written[i] = (*stack)[first + i].toTensor();
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  const size_t results = stack->size() - schema.returns().size();
  for (size_t r = results; r < stack->size(); ++r) {
    c10::IValue& value = (*stack)[r];
    if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(on_fake(tensor));
      value = std::move(list);
    }
    if (!value.isTensor()) continue;
    const at::Tensor tensor = value.toTensor();
    const at::Tensor* same = nullptr;
    for (size_t i = 0; i < count; ++i) {
      if (cpu_written[i].defined() && tensor.is_same(cpu_written[i])) same = &written[i];
    }
    if (same != nullptr) {
      if (same->sizes() != tensor.sizes()) {
        SUTOR_ASSERT(same->numel() == 0);
        same->resize_(tensor.sizes());
        on_cpu(*same).copy_(tensor);
      }
      value = *same;
    } else {
      value = on_fake(tensor);
    }
  }
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator,
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   dtype.value_or(at::kFloat), format);
}
at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           dtype.value_or(at::kFloat));
}
at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  if (is_fake(from) && !is_fake(to)) ++reads;
  on_cpu(to).copy_(on_cpu(from));
  return to;
}
at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}
at::Scalar local_scalar(const at::Tensor& tensor) {
  ++reads;
  return on_cpu(tensor).item();
}
bool equal(const at::Tensor& a, const at::Tensor& b) {
  ++reads;
  return on_cpu(a).equal(on_cpu(b));
}
at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}
at::Tensor as_strided(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                      std::optional<c10::SymInt> offset) {
  return at::native::as_strided_tensorimpl(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
      offset ? std::optional<int64_t>(offset->expect_int()) : std::nullopt);
}
at::Tensor reshape_alias(const at::Tensor& self, c10::SymIntArrayRef size,
                         c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size),
                                    C10_AS_INTARRAYREF_SLOW(stride));
}
const at::Tensor& resize(const at::Tensor& self, c10::SymIntArrayRef size,
                         std::optional<at::MemoryFormat>) {
  self.unsafeGetTensorImpl()->set_sizes_contiguous(C10_AS_INTARRAYREF_SLOW(size));
  const size_t bytes = static_cast<size_t>(self.numel()) * self.element_size();
  c10::StorageImpl* storage = self.storage().unsafeGetStorageImpl();
  if (bytes > storage->nbytes()) {
    storage->set_data_ptr_noswap(allocator.allocate(bytes));
    storage->set_nbytes(bytes);
  }
  return self;
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
  library.impl("_local_scalar_dense", local_scalar);
  library.impl("equal", equal);
  library.impl("view", view);
  library.impl("as_strided", as_strided);
  library.impl("_reshape_alias", reshape_alias);
  library.impl("resize_", resize);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

}  // namespace

at::Device fake_device() {
  static std::once_flag once;
  std::call_once(once, [] {
    c10::register_privateuse1_backend("fake");
    static Hooks hooks;
    at::RegisterPrivateUse1HooksInterface(&hooks);
  });
  return {kType, 0};
}

int64_t host_reads() { return reads; }

}  // namespace sutor::testing
