// Which tokens make which training sample, and in which order: a pure function of the token stores,
// the recipe's data options, the seed and the epoch, never of the layout.
// A sample is a pack of isolated documents (data.packing) or one document.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "launch/data/token_store.h"
#include "recipes/recipe.h"

namespace sutor {

// A run of tokens of one document; attention, positions and targets do not leave it.
struct Segment {
  int store = 0;           // index into the token stores
  int64_t begin = 0;       // first token in the store
  int64_t length = 0;      // tokens, 1 .. seq_len
  int64_t supervised = 0;  // targets among its tokens but the first
};

struct Sample {
  std::vector<Segment> segments;
  int64_t tokens = 0;      // 1 .. seq_len
  int64_t supervised = 0;  // targets of the pieces
};

struct PackingReport {
  int64_t documents = 0;     // in the token stores
  int64_t dropped = 0;       // too long (too_long: drop)
  int64_t truncated = 0;     // too long, the first seq_len tokens kept
  int64_t split = 0;         // too long, cut into several pieces
  int64_t unsupervised = 0;  // kept documents without a target left; they cost time, not loss
  int64_t samples = 0;
  int64_t tokens = 0;
  int64_t supervised = 0;
  double efficiency = 0;  // tokens / (samples * seq_len); 1 - share of empty room
};

struct SampleList {
  std::vector<Sample> samples;
  PackingReport report;
};

// The samples of `epoch` (0, 1, ...) in training order. Documents are shuffled by (seed, epoch);
// with packing they go into packs of at most seq_len tokens (best fit over a window of shuffled
// documents), and the packs are shuffled again. A document longer than seq_len is dropped,
// truncated or split as `too_long` says; splits share one token, so that every token but the
// document's first stays a target once.
// Throws E0334 when no token is in the loss, or every document was dropped.
SampleList build_samples(std::span<const TokenStore* const> stores, const DataOptions& options,
                         uint64_t seed, int64_t epoch);

// An evaluation set: every document is a sample, in file order; longer ones are always split (as
// above), so that the mean loss is over all targets whatever seq_len is. Same errors.
SampleList eval_samples(const TokenStore& store, int64_t seq_len);

// A part [begin, end) of a list.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// Global batch `step` of an epoch of `samples` samples; the last one may be short.
Range batch_range(int64_t samples, int64_t global_batch, int64_t step);
int64_t batches_per_epoch(int64_t samples, int64_t global_batch);

// The contiguous part of a global batch that data parallel rank `rank` of `ranks` takes; the first
// ranks get one more when it does not divide, the last may get none.
Range rank_range(Range batch, int64_t rank, int64_t ranks);

// Where training stands: samples [0, position) of `epoch` are consumed.
struct Cursor {
  int64_t epoch = 0;
  int64_t position = 0;
  bool operator==(const Cursor&) const = default;
};

// Samples of the epochs one after the other, with the epoch at hand kept. Use on every rank alike.
class SampleStream {
 public:
  // `stores` must outlive the stream.
  SampleStream(std::vector<const TokenStore*> stores, DataOptions options, uint64_t seed,
               int64_t global_batch, Cursor start = {});

  const Cursor& cursor() const { return cursor_; }
  const std::vector<const TokenStore*>& stores() const { return stores_; }
  // Of the epoch at hand.
  const PackingReport& report() const { return epoch_.report; }
  // The next global batch, which may be the short last one of its epoch; moves the cursor behind
  // it. Valid until the next call.
  std::span<const Sample> next_batch();

  // Training steps of `epochs` passes from the start (a fraction counts the steps begun), whatever
  // the cursor says. Builds every epoch once when packing, as the number of packs may differ.
  int64_t steps_of_epochs(double epochs) const;

 private:
  void load_epoch();

  std::vector<const TokenStore*> stores_;
  DataOptions options_;
  uint64_t seed_;
  int64_t global_batch_;
  Cursor cursor_;
  SampleList epoch_;
};

// Steps of the whole training: schedule.steps when given, else those of schedule.epochs.
int64_t total_steps(const ScheduleOptions& schedule, const SampleStream& stream);

}  // namespace sutor
