// Philox-4x32-10 (Salmon, Moraes, Dror, Shaw 2011, Random123): random words as a function of a
// counter and a key, so that no order of drawing exists. Not for secrets.
#pragma once

#include <cstdint>

#include "csrc/ops/device/host_device.h"

namespace sutor::ops {

struct PhiloxWords {
  uint32_t x0, x1, x2, x3;
};

// Written out without arrays, so that loops over counters vectorise. Static: each level of kernels
// has its own.
SUTOR_HOST_DEVICE static inline PhiloxWords philox4x32(PhiloxWords counter, uint32_t key0,
                                                       uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter.x0;
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter.x2;
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter.x1 ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter.x3 ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

}  // namespace sutor::ops
