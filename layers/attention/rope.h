// Rotary position embedding, with YaRN's interpolated frequencies (arXiv 2309.00071).
#pragma once

#include <ATen/core/Tensor.h>

#include "layers/attention/rope_config.h"
#include "layers/batch/packed_batch.h"

namespace sutor {

enum class RopeStyle { kHalf, kInterleaved };  // pairs (j, j + d/2), or (2j, 2j + 1)

class Rope {
 public:
  Rope(const RopeConfig& config, int64_t width, RopeStyle style);

  // To where the batches are; from the CPU, once.
  void move_to(at::Device device);

  struct Tables {
    at::Tensor cos, sin;  // fp32 [T, width / 2], both multiplied by the factor
  };
  Tables tables(const PackedBatch& batch) const;
  // x [T, heads, d]; rotates `width` dims of every head, from `offset` on, and copies the others.
  at::Tensor apply(const at::Tensor& x, const Tables& tables, int64_t offset) const;

 private:
  int64_t width_;
  RopeStyle style_;
  at::Tensor inverse_frequencies_;  // fp32 [width / 2]
  double factor_;
};

}  // namespace sutor
