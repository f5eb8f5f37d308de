// Which tokens form which training sample, and in which order: a pure function of the token stores,
// the recipe's data options, the seed and the epoch, never of the layout. A sample is a pack of
// isolated segments (data.packing) or one segment.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "csrc/base/index_range.h"
#include "launch/data/token_store.h"
#include "recipes/recipe.h"

namespace sutor {

// Consecutive tokens of one document; attention, positions and targets do not leave them.
struct Segment {
  int store = 0;           // index into the token stores
  int64_t begin = 0;       // first token in the store
  int64_t length = 0;      // tokens, 1 .. seq_len
  int64_t supervised = 0;  // targets among its tokens; the first one only where it is predicted
  // Not isolated from the segment before it in its sample: one sequence with it, whose last token
  // has this one's first as its target where `first_is_target`.
  bool joins = false, first_is_target = false;
};

struct Sample {
  std::vector<Segment> segments;
  int64_t tokens = 0;      // 1 .. seq_len
  int64_t supervised = 0;  // targets of the segments
};

// What an epoch holds of a token store.
struct SourceReport {
  int64_t documents = 0;  // taken, some of them several times
  int64_t tokens = 0;     // in samples
  int64_t supervised = 0;
};

struct PackingReport {
  int64_t documents = 0;            // taken from the token stores
  int64_t dropped = 0;              // too long (too_long: drop)
  int64_t truncated = 0;            // too long, seq_len tokens kept; by authors' packs: cut
  int64_t split = 0;                // too long, split into several segments
  int64_t unsupervised = 0;         // without any target, and left out for that
  int64_t cut_unsupervised = 0;     // of them, those that had a target before they were truncated
  int64_t unsupervised_pieces = 0;  // of documents that were split, left out for the same
  int64_t cut_tokens = 0, first_tokens_dropped = 0;  // by authors' packs
  int64_t samples = 0;
  int64_t tokens = 0;
  int64_t supervised = 0;
  double efficiency = 0;              // tokens / (samples * seq_len)
  std::vector<SourceReport> sources;  // of each token store
};

// Whether anything was left out for want of a target.
bool leaves_out(const PackingReport& report);

struct SampleList {
  std::vector<Sample> samples;
  PackingReport report;
};

// The samples of `epoch` (0, 1, ...) in training order. The documents that the epoch takes of each
// set (source_mix.h; options.train, or each once where that is empty) are shuffled by (seed,
// epoch); with packing their segments go into packs of at most seq_len tokens (best fit within a
// packing window), and the packs are shuffled again; authors_packs.h has the other way to pack.
// What becomes of a document longer than seq_len: document_segments.h. Every sample has a target:
// what has none is left out and counted. Throws E0334 when no token is in the loss, or every
// document was dropped.
SampleList build_samples(std::span<const TokenStore* const> stores, const DataOptions& options,
                         uint64_t seed, int64_t epoch);

// An evaluation set: every document is a sample, in file order; longer ones are always split as
// above, so that the mean loss is over all targets whatever seq_len is. Same errors.
SampleList eval_samples(const TokenStore& store, int64_t seq_len);

// Of `samples` samples; the last one may be short.
int64_t batches_per_epoch(int64_t samples, int64_t global_batch);

// The position of a training: samples [0, position) of `epoch` are consumed.
struct Cursor {
  int64_t epoch = 0;
  int64_t position = 0;
  bool operator==(const Cursor&) const = default;
};

// The samples of all epochs, one after the other; keeps those of the current epoch. Every rank must
// use it in the same way.
class SampleStream {
 public:
  // `stores` must outlive the stream.
  SampleStream(std::vector<const TokenStore*> stores, DataOptions options, uint64_t seed,
               int64_t global_batch, Cursor start = {});

  const Cursor& cursor() const { return cursor_; }
  const std::vector<const TokenStore*>& stores() const { return stores_; }
  // Of the current epoch.
  const PackingReport& report() const { return epoch_.report; }
  // Returns the next global batch, which may be the short last one of its epoch, and moves the
  // cursor past it. Valid until the next call.
  std::span<const Sample> next_batch();

  // Training steps of `epochs` passes from the start, wherever the cursor is; of a fraction of an
  // epoch, the steps begun. Builds every epoch once when packing or mixing, as the number of
  // samples may differ.
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
