// What the operators' tests share: the devices they run on, inputs on them, and comparisons with a
// reference in float64. A test is written once, with the device as its parameter.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "csrc/ops/backend.h"
#include "tests/support/fake_device.h"

namespace sutor::testing {

enum class OpDevice { kCpu, kFake, kCuda };

// The devices that this build has operators for.
inline std::vector<OpDevice> op_devices() {
  std::vector<OpDevice> devices = {OpDevice::kCpu, OpDevice::kFake};
  if (ops::kHasCuda) devices.push_back(OpDevice::kCuda);
  return devices;
}

// Relative to the norm of the reference.
inline double tolerance_of(at::ScalarType dtype) { return dtype == at::kFloat ? 1e-5 : 1e-2; }

inline at::Tensor as_double(const at::Tensor& x) { return x.cpu().to(at::kDouble); }

// By the norm of all elements, as a share of the reference's.
inline void expect_near(const at::Tensor& ours, const at::Tensor& reference, double tolerance,
                        const char* what) {
  ASSERT_TRUE(ours.defined()) << what;
  ASSERT_EQ(ours.sizes(), reference.sizes()) << what;
  const double error = (as_double(ours) - reference.detach()).norm().item<double>();
  const double share = error / std::max(1e-30, reference.norm().item<double>());
  ::testing::Test::RecordProperty(std::string("error ") + what, std::to_string(share));
  EXPECT_LE(error, tolerance * reference.norm().item<double>()) << what;
}

inline void expect_same_bits(const at::Tensor& one, const at::Tensor& other, const char* what) {
  ASSERT_EQ(one.scalar_type(), other.scalar_type()) << what;
  EXPECT_TRUE(at::equal(one.cpu(), other.cpu())) << what;
}

// A leaf of the reference's graph with the values of x.
inline at::Tensor leaf_of(const at::Tensor& x) {
  return as_double(x).clone().detach().set_requires_grad(true);
}

// Numbers that depend on the seed and the shape alone. Torch's default seed is left alone: setting
// it would ask the fake device for a generator.
inline at::Generator seeded(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}
// Rounded to the dtype.
inline at::Tensor random_normal(at::IntArrayRef sizes, at::ScalarType dtype, uint64_t seed) {
  return at::randn(sizes, seeded(seed), at::TensorOptions()).to(dtype);
}
// In [0, 1).
inline at::Tensor random_uniform(at::IntArrayRef sizes, uint64_t seed) {
  return at::rand(sizes, seeded(seed), at::TensorOptions());
}
// int64, below `end`.
inline at::Tensor random_below(int64_t end, at::IntArrayRef sizes, uint64_t seed) {
  return at::randint(end, sizes, seeded(seed), at::TensorOptions().dtype(at::kLong));
}

inline at::Tensor longs(const std::vector<int64_t>& values) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong));
}

// A test with a device and more as its parameters; skipped where the build's GPU is missing.
template <typename... Params>
class OperatorTest : public ::testing::TestWithParam<std::tuple<OpDevice, Params...>> {
 protected:
  void SetUp() override {
    if (place() == OpDevice::kCuda && !at::hasCUDA()) GTEST_SKIP() << "torch finds no GPU";
  }

  static OpDevice place() { return std::get<0>(OperatorTest::GetParam()); }
  static at::Device device() {
    if (place() == OpDevice::kFake) return fake_device();
    return place() == OpDevice::kCuda ? at::kCUDA : at::kCPU;
  }
  // Undefined stays undefined.
  static at::Tensor moved(const at::Tensor& x) { return x.defined() ? x.to(device()) : x; }

  // What f() returns, which must not read the device from the host. Reads are counted by the fake
  // device, a thread at a time: there it runs on this one.
  template <typename F>
  static auto without_host_reads(F&& f) {
    const int threads = at::get_num_threads();
    if (place() == OpDevice::kFake) at::set_num_threads(1);
    const int64_t before = host_reads();
    auto result = f();
    EXPECT_EQ(host_reads(), before) << "values that the host read of the device";
    at::set_num_threads(threads);
    return result;
  }
};

inline std::string word_of(OpDevice device) {
  if (device == OpDevice::kFake) return "Fake";
  return device == OpDevice::kCuda ? "Cuda" : "Cpu";
}
inline std::string word_of(at::ScalarType dtype) { return dtype == at::kFloat ? "Fp32" : "Bf16"; }
template <typename Case>
std::string word_of(const Case& c) {
  return c.name;
}

// The words of a test's parameters, as in CpuBf16OneRow.
struct NamesOfParams {
  template <typename Info>
  std::string operator()(const Info& info) const {
    return std::apply([](const auto&... params) { return (word_of(params) + ...); }, info.param);
  }
};

// A suite on all devices and, with cases, on each of them.
inline auto on_all_devices() { return ::testing::Combine(::testing::ValuesIn(op_devices())); }
template <typename Cases>
auto on_all_devices(const Cases& cases) {
  return ::testing::Combine(::testing::ValuesIn(op_devices()), ::testing::ValuesIn(cases));
}
template <typename Cases>
auto on_all_devices_in_both_dtypes(const Cases& cases) {
  return ::testing::Combine(::testing::ValuesIn(op_devices()),
                            ::testing::Values(at::kFloat, at::kBFloat16),
                            ::testing::ValuesIn(cases));
}

}  // namespace sutor::testing
