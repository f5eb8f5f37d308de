#include "launch/data/run_length.h"

#include <fmt/format.h>

#include "csrc/base/error.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

// A smaller part of optim.lr than this is taken for a mistake, not for a short trial.
constexpr double kLeastShareOfLr = 1e-3;

void check_warmup(const Recipe& recipe, int64_t total_steps, bool print) {
  const int64_t warmup = parse_warmup(recipe.schedule.warmup, total_steps);
  if (warmup <= total_steps) return;
  const double share = static_cast<double>(total_steps) / static_cast<double>(warmup);
  const std::string found = fmt::format(
      "schedule.warmup is {} steps, but the training ends after {}: the learning rate reaches {} "
      "at most, not optim.lr {}",
      warmup, total_steps, recipe.optim.lr * share, recipe.optim.lr);
  if (share < kLeastShareOfLr) {
    fail(ErrorCode::kBadValue, "{}. Shorten the warm-up (3%), or train longer.", found);
  }
  if (print) fmt::print(stderr, "warning[{}]: {}\n", WarningCode::kWarmupBeyondRun, found);
}

void warn_of_batch(const Recipe& recipe, const PackingReport& epoch) {
  if (recipe.train.global_batch <= epoch.samples) return;
  fmt::print(stderr,
             "warning[{}]: train.global_batch is {}, but an epoch has {} {}: every step takes all "
             "of them\n",
             WarningCode::kBatchBeyondData, recipe.train.global_batch, epoch.samples,
             recipe.data.packing ? "packs" : "documents");
}

// Whatever the epoch has: the steps may end before the first sample that counts.
void check_supervised(SampleStream stream, int64_t total_steps) {
  for (int64_t step = 0; step < total_steps; ++step) {
    for (const Sample& sample : stream.next_batch()) {
      if (sample.supervised > 0) return;
    }
  }
  fail(ErrorCode::kNoData,
       "none of the {} steps has a token in the loss: nothing would be learned. Train longer, or "
       "check data.loss_on with `sutor prepare --show 3`.",
       total_steps);
}

}  // namespace

void check_run_length(const Recipe& recipe, const SampleStream& stream, int64_t total_steps,
                      bool print) {
  check_warmup(recipe, total_steps, print);
  if (print) warn_of_batch(recipe, stream.report());
  check_supervised(stream, total_steps);
}

}  // namespace sutor
