// Small helpers between torch tensors and the row kernels.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <type_traits>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/ops/cpu/row_kernels.h"

namespace sutor::ops {

template <typename T>
T* data(const at::Tensor& tensor) {
  if constexpr (std::is_same_v<T, BFloat>) {
    return reinterpret_cast<BFloat*>(tensor.data_ptr<at::BFloat16>());
  } else {
    return tensor.data_ptr<T>();
  }
}

// Calls f(T{}) with T = float or BFloat by the tensor's dtype.
template <typename F>
void dispatch_dtype(at::ScalarType dtype, F&& f) {
  if (dtype == at::kFloat) {
    f(float{});
  } else {
    SUTOR_ASSERT(dtype == at::kBFloat16);
    f(BFloat{});
  }
}

// f(begin, end) over [0, count), at least `grain` items a thread, without autograd.
template <typename F>
void parallel(int64_t count, int64_t grain, F&& f) {
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowAutograd guard;  // workers have grad mode on whatever the caller has
    f(begin, end);
  });
}

// A piece of work with a cost. run_units hands them to the threads as these become free, largest
// first, each to one thread. Units must write to different places: then which thread runs which
// does not show in the results.
struct Unit {
  int64_t slot = 0;            // expert, or whatever the caller numbers
  int64_t begin = 0, end = 0;  // rows
  double cost = 0;
};

template <typename F>
void run_units(std::vector<Unit>& units, F&& f) {
  const int threads = std::max(1, at::get_num_threads());
  if (threads == 1 || units.size() <= 1 || at::in_parallel_region()) {
    at::AutoDispatchBelowAutograd guard;
    for (const Unit& unit : units) f(unit);
    return;
  }
  std::stable_sort(units.begin(), units.end(),
                   [](const Unit& a, const Unit& b) { return a.cost > b.cost; });
  std::atomic<size_t> next = 0;
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    at::AutoDispatchBelowAutograd guard;
    for (size_t i = next++; i < units.size(); i = next++) f(units[i]);
  });
}

}  // namespace sutor::ops
