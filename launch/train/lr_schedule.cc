#include "launch/train/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "recipes/recipe_reader.h"

namespace sutor {

LrSchedule::LrSchedule(const ScheduleOptions& options, double lr, int64_t total_steps)
    : kind_(options.name == "linear"   ? Kind::kLinear
            : options.name == "cosine" ? Kind::kCosine
                                       : Kind::kConstant),
      lr_(lr),
      min_lr_(parse_min_lr(options.min_lr, lr)),
      warmup_(parse_warmup(options.warmup, total_steps)),
      total_(total_steps) {}

double LrSchedule::at(int64_t step) const {
  if (step <= warmup_) return lr_ * static_cast<double>(step) / static_cast<double>(warmup_);
  if (kind_ == Kind::kConstant) return lr_;
  const double length = static_cast<double>(std::max<int64_t>(1, total_ - warmup_));
  // Of the steps behind the warm-up, those before this one: the last step still has a rate, and
  // min_lr would be that of the step after it.
  const double done = std::min(1.0, static_cast<double>(step - 1 - warmup_) / length);
  const double left =
      kind_ == Kind::kLinear ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done));
  return min_lr_ + (lr_ - min_lr_) * left;
}

}  // namespace sutor
