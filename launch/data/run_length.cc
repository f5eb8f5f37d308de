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

// Once for the whole training, of its first epoch.
void warn_of_documents(const DataOptions& data, const PackingReport& epoch) {
  if (leaves_out(epoch)) {
    fmt::print(stderr,
               "warning[{}]: {} of {} documents{} have no token in the loss and are left out",
               WarningCode::kNothingInLoss, epoch.unsupervised, epoch.documents,
               epoch.unsupervised_pieces > 0
                   ? fmt::format(" and {} pieces of split ones", epoch.unsupervised_pieces)
                   : "");
    if (epoch.cut_unsupervised > 0) {
      fmt::print(stderr,
                 "; {} of them lost it at data.seq_len {}: raise it, or keep the ends of documents "
                 "(data.truncation_side: {}) or all pieces (data.too_long: split)",
                 epoch.cut_unsupervised, data.seq_len,
                 data.truncation_side == "right" ? "left" : "right");
    }
    fmt::print(stderr, "\n");
  }
  if (epoch.dropped + epoch.truncated + epoch.split > 0 && !data.authors_packs) {
    fmt::print(stderr,
               "warning[{}]: of {} documents, {} are longer than data.seq_len {} and were {}\n",
               WarningCode::kDocumentsCut, epoch.documents,
               epoch.dropped + epoch.truncated + epoch.split, data.seq_len,
               data.too_long == "split"      ? "split into pieces"
               : data.too_long == "truncate" ? "truncated, on the " + data.truncation_side
                                             : "dropped");
  }
}

void warn_of_two_lengths(const Recipe& recipe, int64_t total_steps) {
  const auto steps = recipe.origins.find("schedule.steps");
  const auto epochs = recipe.origins.find("schedule.epochs");
  if (!recipe.schedule.steps || steps == recipe.origins.end() || epochs == recipe.origins.end()) {
    return;
  }
  fmt::print(stderr,
             "warning: schedule.steps ({}) and schedule.epochs ({}) both say how long to train: "
             "steps counts, {} of them. Leave one out\n",
             steps->second, epochs->second, total_steps);
}

}  // namespace

std::string one_step_text() {
  return "the training is one step: almost nothing will be learned. Lower train.global_batch, or "
         "raise schedule.epochs or schedule.steps";
}

void check_run_length(const Recipe& recipe, const SampleStream& stream, int64_t total_steps,
                      bool print) {
  check_warmup(recipe, total_steps, print);
  if (!print) return;
  warn_of_two_lengths(recipe, total_steps);
  warn_of_batch(recipe, stream.report());
  warn_of_documents(recipe.data, stream.report());
}

}  // namespace sutor
