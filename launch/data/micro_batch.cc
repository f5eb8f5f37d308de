// Concatenates the segments of samples.
#include "launch/data/micro_batch.h"

#include <algorithm>

namespace sutor {
namespace {

void append(const TokenStore& store, const Segment& segment, MicroBatch& batch) {
  const auto ids = store.ids(segment.begin, segment.length);
  const auto mask = store.loss_mask(segment.begin, segment.length);
  if (segment.joins) {
    batch.doc_offsets.pop_back();
    if (segment.first_is_target) batch.targets.back() = ids[0];
  }
  batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
  for (int64_t i = 0; i + 1 < segment.length; ++i) {
    batch.targets.push_back(mask[i + 1] ? ids[i + 1] : kNoTarget);
  }
  batch.targets.push_back(kNoTarget);
  batch.doc_offsets.push_back(static_cast<int64_t>(batch.ids.size()));
  batch.sources.insert(batch.sources.end(), static_cast<size_t>(segment.length), segment.store);
  batch.supervised += segment.supervised;
}

}  // namespace

std::vector<MicroBatch> micro_batches(std::span<const TokenStore* const> stores,
                                      std::span<const Sample> samples, IndexRange range,
                                      int64_t micro_batch) {
  std::vector<MicroBatch> batches;
  for (int64_t begin = range.begin; begin < range.end; begin += micro_batch) {
    MicroBatch& batch = batches.emplace_back();
    batch.doc_offsets.push_back(0);
    for (int64_t i = begin; i < std::min(begin + micro_batch, range.end); ++i) {
      for (const Segment& segment : samples[i].segments) {
        append(*stores[segment.store], segment, batch);
      }
    }
  }
  return batches;
}

int64_t micro_batch_count(int64_t samples, int64_t ranks, int64_t micro_batch) {
  const int64_t most = (samples + ranks - 1) / ranks;
  return (most + micro_batch - 1) / micro_batch;
}

std::vector<MicroBatch> rank_micro_batches(std::span<const TokenStore* const> stores,
                                           std::span<const Sample> batch, int64_t rank,
                                           int64_t ranks, int64_t micro_batch) {
  const int64_t count = micro_batch_count(static_cast<int64_t>(batch.size()), ranks, micro_batch);
  std::vector<MicroBatch> batches;
  for (int64_t i = 0; i < count; ++i) {
    batches.push_back(rank_micro_batch(stores, batch, rank, ranks, micro_batch, i));
  }
  return batches;
}

std::span<const Sample> rank_samples(std::span<const Sample> batch, int64_t rank, int64_t ranks,
                                     int64_t micro_batch, int64_t index) {
  const IndexRange share = leading_range(static_cast<int64_t>(batch.size()), rank, ranks);
  const int64_t begin = share.begin + index * micro_batch;
  const int64_t end = std::min(begin + micro_batch, share.end);
  if (begin >= end) return {};
  return batch.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

MicroBatch rank_micro_batch(std::span<const TokenStore* const> stores,
                            std::span<const Sample> batch, int64_t rank, int64_t ranks,
                            int64_t micro_batch, int64_t index) {
  const std::span<const Sample> own = rank_samples(batch, rank, ranks, micro_batch, index);
  const auto count = static_cast<int64_t>(own.size());
  if (count > 0) return micro_batches(stores, own, {0, count}, micro_batch).front();
  MicroBatch empty;
  empty.doc_offsets.push_back(0);
  return empty;
}

std::vector<Sample> joined_samples(std::vector<Sample> samples, int64_t max_tokens) {
  std::vector<Sample> packs;
  for (Sample& sample : samples) {
    if (packs.empty() || packs.back().tokens + sample.tokens > max_tokens) {
      packs.push_back(std::move(sample));
      continue;
    }
    Sample& pack = packs.back();
    pack.segments.insert(pack.segments.end(), sample.segments.begin(), sample.segments.end());
    pack.tokens += sample.tokens;
    pack.supervised += sample.supervised;
  }
  return packs;
}

int64_t supervised_tokens(std::span<const Sample> batch) {
  int64_t count = 0;
  for (const Sample& sample : batch) count += sample.supervised;
  return count;
}

std::vector<int64_t> supervised_by_store(std::span<const Sample> batch, size_t stores) {
  std::vector<int64_t> counts(stores, 0);
  for (const Sample& sample : batch) {
    for (const Segment& segment : sample.segments) {
      counts[static_cast<size_t>(segment.store)] += segment.supervised;
    }
  }
  return counts;
}

int64_t sequence_count(std::span<const Sample> batch) {
  int64_t count = 0;
  for (const Sample& sample : batch) {
    count += std::count_if(sample.segments.begin(), sample.segments.end(),
                           [](const Segment& segment) { return !segment.joins; });
  }
  return count;
}

int64_t token_count(std::span<const Sample> batch) {
  int64_t count = 0;
  for (const Sample& sample : batch) count += sample.tokens;
  return count;
}

}  // namespace sutor
