// Where the experts of a rank stand in its storage.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "csrc/ops/device/host_window.h"

namespace sutor {

// Local expert id -> slot; -1 for ids that are not in use.
class LocalSlots {
 public:
  LocalSlots() = default;
  LocalSlots(std::vector<int64_t> slot_of_local, at::Device device = at::kCPU)
      : slot_of_local_(std::move(slot_of_local)) {
    for (const int64_t slot : slot_of_local_) count_ = std::max(count_, slot + 1);
    on_device_ = ops::longs_on(slot_of_local_, device);
  }

  int64_t operator[](int64_t local_id) const {
    return slot_of_local_[static_cast<size_t>(local_id)];
  }
  int64_t size() const { return static_cast<int64_t>(slot_of_local_.size()); }  // of local ids
  int64_t count() const { return count_; }                                      // of slots
  const at::Tensor& on_device() const { return on_device_; }                    // int64 [size()]

 private:
  std::vector<int64_t> slot_of_local_;
  int64_t count_ = 0;
  at::Tensor on_device_;
};

}  // namespace sutor
