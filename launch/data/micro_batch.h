// The input of a forward pass: concatenated samples, with targets and document offsets.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "launch/data/sample_order.h"

namespace sutor {

inline constexpr int64_t kNoTarget = -100;

// Positions restart at every document offset, and attention does not cross it. Segments that join
// the one before them have no offset of their own.
struct MicroBatch {
  std::vector<int64_t> ids;          // [tokens]
  std::vector<int64_t> targets;      // [tokens]: id of the next token where it is in the loss, else
                                     // kNoTarget (always at the last token of a document)
  std::vector<int64_t> doc_offsets;  // [documents + 1]: from 0 to tokens, strictly rising
  std::vector<int64_t> sources;      // [tokens]: the token store of each
  int64_t supervised = 0;            // targets that are not kNoTarget
  bool empty() const { return ids.empty(); }
};

// Samples [range.begin, range.end) of `samples`, in order, `micro_batch` samples per micro-batch.
std::vector<MicroBatch> micro_batches(std::span<const TokenStore* const> stores,
                                      std::span<const Sample> samples, IndexRange range,
                                      int64_t micro_batch);

// The number of micro-batches that every data-parallel rank runs for a global batch of `samples`
// samples: that of the rank with most. Ranks with fewer run empty ones, so that collectives match.
int64_t micro_batch_count(int64_t samples, int64_t ranks, int64_t micro_batch);

// This rank's micro-batches of a global batch, padded with empty ones to micro_batch_count().
std::vector<MicroBatch> rank_micro_batches(std::span<const TokenStore* const> stores,
                                           std::span<const Sample> batch, int64_t rank,
                                           int64_t ranks, int64_t micro_batch);

// The samples of micro-batch `index` of those; none where it is empty.
std::span<const Sample> rank_samples(std::span<const Sample> batch, int64_t rank, int64_t ranks,
                                     int64_t micro_batch, int64_t index);

// Only micro-batch `index` of those: a loop over a whole set then has one in memory at a time.
MicroBatch rank_micro_batch(std::span<const TokenStore* const> stores,
                            std::span<const Sample> batch, int64_t rank, int64_t ranks,
                            int64_t micro_batch, int64_t index);

// Joins neighbours that have at most `max_tokens` tokens together: fewer and larger forward passes
// with the same result, as documents stay isolated.
std::vector<Sample> joined_samples(std::vector<Sample> samples, int64_t max_tokens);

// Targets in a global batch: the divisor of the loss, known to every rank without communication.
int64_t supervised_tokens(std::span<const Sample> batch);
int64_t token_count(std::span<const Sample> batch);
// The same of each of `stores` token stores.
std::vector<int64_t> supervised_by_store(std::span<const Sample> batch, size_t stores);
// What attention sees as one: segments, each with those that join it.
int64_t sequence_count(std::span<const Sample> batch);

}  // namespace sutor
