// Small helpers between torch tensors and the row kernels.
#pragma once

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <type_traits>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/ops/row_kernels.h"

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

// A piece of work with a cost; run_units spreads them over the threads, largest first, each on one
// thread. The split depends on costs and thread count alone, so results do not vary from run to
// run.
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
  std::vector<std::vector<const Unit*>> bins(threads);
  std::vector<double> load(threads, 0.0);
  for (const Unit& unit : units) {
    const auto least = std::min_element(load.begin(), load.end()) - load.begin();
    bins[least].push_back(&unit);
    load[least] += unit.cost;
  }
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowAutograd guard;
    for (int64_t bin = begin; bin < end; ++bin) {
      for (const Unit* unit : bins[bin]) f(*unit);
    }
  });
}

}  // namespace sutor::ops
