// The learning rate of each step.
#pragma once

#include <cstdint>

#include "recipes/recipe.h"

namespace sutor {

class LrSchedule {
 public:
  // Throws E0205 for a warm-up or minimum that cannot be read.
  LrSchedule(const ScheduleOptions& options, double lr, int64_t total_steps);
  // step: 1 = the first. Rises linearly during warm-up, to `lr` at its last step; then stays
  // constant, or falls linearly or as a cosine from `lr` to min_lr, which is the rate of the step
  // behind the last one, as in transformers: no step of a training has a rate of 0.
  double at(int64_t step) const;

 private:
  enum class Kind { kConstant, kLinear, kCosine };
  Kind kind_;
  double lr_, min_lr_;
  int64_t warmup_, total_;
};

}  // namespace sutor
