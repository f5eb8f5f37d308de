// Shuffles documents, splits them into segments and packs these into samples.
#include "launch/data/sample_order.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include "csrc/base/error.h"
#include "csrc/base/random.h"
#include "launch/data/authors_packs.h"
#include "launch/data/document_segments.h"
#include "launch/data/packing.h"
#include "launch/data/source_mix.h"
#include "recipes/data_sets.h"

namespace sutor {
namespace {

std::mt19937_64 generator(uint64_t seed, int64_t epoch) {
  const auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
  const uint64_t number = static_cast<uint64_t>(epoch);
  std::seed_seq sequence{low(seed), low(seed >> 32), low(number), low(number >> 32)};
  return std::mt19937_64(sequence);
}

Sample make_sample(std::vector<Segment> segments) {
  Sample sample;
  for (const Segment& segment : segments) {
    sample.tokens += segment.length;
    sample.supervised += segment.supervised;
  }
  sample.segments = std::move(segments);
  return sample;
}

void finish_report(SampleList& list, int64_t seq_len, const std::string& names) {
  PackingReport& report = list.report;
  report.samples = static_cast<int64_t>(list.samples.size());
  for (const Sample& sample : list.samples) {
    report.tokens += sample.tokens;
    report.supervised += sample.supervised;
    for (const Segment& segment : sample.segments) {
      report.sources[segment.store].tokens += segment.length;
      report.sources[segment.store].supervised += segment.supervised;
    }
  }
  if (report.samples > 0) {
    report.efficiency =
        static_cast<double>(report.tokens) / static_cast<double>(report.samples * seq_len);
  }
  if (report.supervised > 0) return;
  if (report.dropped > 0 && report.dropped == report.documents) {
    fail(ErrorCode::kNoData,
         "{}: all {} documents are longer than data.seq_len {} and were dropped. Raise "
         "data.seq_len, or set data.too_long to truncate or split",
         names, report.documents, seq_len);
  }
  fail(ErrorCode::kNoData,
       "{}: no token is in the loss ({} documents, {} dropped, {} truncated at data.seq_len "
       "{}). Check data.loss_on with `sutor prepare --show 3`, and data.truncation_side",
       names, report.documents, report.dropped, report.truncated, seq_len);
}

std::string names_of(std::span<const TokenStore* const> stores) {
  std::string names;
  for (const TokenStore* store : stores) {
    names += (names.empty() ? "" : ", ") + store->path().string();
  }
  return names;
}

}  // namespace

bool leaves_out(const PackingReport& report) {
  return report.unsupervised + report.unsupervised_pieces > 0;
}

SampleList build_samples(std::span<const TokenStore* const> stores, const DataOptions& options,
                         uint64_t seed, int64_t epoch) {
  std::vector<DocumentRef> documents = documents_of_epoch(stores, options.train, seed, epoch);
  std::mt19937_64 random = generator(seed, epoch);
  SampleList list;
  list.report.sources.resize(stores.size());
  if (options.authors_packs) {
    std::vector<Segment> in_order;
    for (const DocumentRef& ref : documents) {
      const Document document = stores[ref.store]->document(ref.document);
      ++list.report.sources[ref.store].documents;
      in_order.push_back({ref.store, document.begin, document.length});
    }
    for (auto& members : authors_packs(stores, in_order, options.seq_len, list.report)) {
      list.samples.push_back(make_sample(std::move(members)));
    }
    shuffle(list.samples, random);
    finish_report(list, options.seq_len, names_of(stores));
    return list;
  }
  shuffle(documents, random);
  std::vector<Segment> segments;
  const SegmentRules rules{options.seq_len, options.too_long, options.truncation_side};
  for (const DocumentRef& ref : documents) {
    ++list.report.sources[ref.store].documents;
    const TokenStore& store = *stores[ref.store];
    append_segments(store, ref.store, store.document(ref.document), rules, segments, list.report);
  }
  if (options.packing) {
    std::vector<int64_t> lengths;
    for (const Segment& segment : segments) lengths.push_back(segment.length);
    for (const std::vector<int64_t>& indices : pack(lengths, options.seq_len)) {
      std::vector<Segment> members;
      for (const int64_t index : indices) members.push_back(segments[index]);
      list.samples.push_back(make_sample(std::move(members)));
    }
    shuffle(list.samples, random);  // the first packs of a packing window have its longest segments
  } else {
    for (const Segment& segment : segments) list.samples.push_back(make_sample({segment}));
  }
  finish_report(list, options.seq_len, names_of(stores));
  return list;
}

SampleList eval_samples(const TokenStore& store, int64_t seq_len) {
  SampleList list;
  list.report.sources.resize(1);
  const SegmentRules rules{seq_len, "split", "right", /*keep_unsupervised=*/true};
  for (int64_t i = 0; i < store.num_documents(); ++i) {
    std::vector<Segment> segments;
    append_segments(store, 0, store.document(i), rules, segments, list.report);
    for (const Segment& segment : segments) list.samples.push_back(make_sample({segment}));
  }
  const TokenStore* const stores[] = {&store};
  finish_report(list, seq_len, names_of(stores));
  return list;
}

int64_t batches_per_epoch(int64_t samples, int64_t global_batch) {
  return (samples + global_batch - 1) / global_batch;
}

SampleStream::SampleStream(std::vector<const TokenStore*> stores, DataOptions options,
                           uint64_t seed, int64_t global_batch, Cursor start)
    : stores_(std::move(stores)),
      options_(std::move(options)),
      seed_(seed),
      global_batch_(global_batch),
      cursor_(start) {
  load_epoch();
  const int64_t samples = epoch_.report.samples;
  if (cursor_.position < 0 || cursor_.position > samples) {
    fail(ErrorCode::kBadDataCursor,
         "the data cursor stands at sample {} of epoch {}, which has {} samples. The data or "
         "data.seq_len, data.packing or train.seed are not those of the checkpoint",
         cursor_.position, cursor_.epoch, samples);
  }
}

void SampleStream::load_epoch() { epoch_ = build_samples(stores_, options_, seed_, cursor_.epoch); }

std::span<const Sample> SampleStream::next_batch() {
  if (cursor_.position >= epoch_.report.samples) {
    cursor_ = {cursor_.epoch + 1, 0};
    load_epoch();
  }
  const int64_t end = std::min(cursor_.position + global_batch_, epoch_.report.samples);
  const std::span<const Sample> batch(epoch_.samples.data() + cursor_.position,
                                      static_cast<size_t>(end - cursor_.position));
  cursor_.position = end;
  return batch;
}

int64_t SampleStream::steps_of_epochs(double epochs) const {
  const auto steps_of = [&](int64_t epoch) {
    const bool all_alike = !options_.packing && !is_mixed(options_.train);
    if (epoch == cursor_.epoch || all_alike) {
      return batches_per_epoch(epoch_.report.samples, global_batch_);
    }
    const SampleList list = build_samples(stores_, options_, seed_, epoch);
    return batches_per_epoch(list.report.samples, global_batch_);
  };
  const int64_t full_epochs = static_cast<int64_t>(epochs);
  int64_t steps = 0;
  for (int64_t epoch = 0; epoch < full_epochs; ++epoch) steps += steps_of(epoch);
  const double fraction = epochs - static_cast<double>(full_epochs);
  if (fraction > 0) {
    steps += static_cast<int64_t>(
        std::ceil(fraction * static_cast<double>(steps_of(full_epochs)) - 1e-9));
  }
  return steps;
}

int64_t total_steps(const ScheduleOptions& schedule, const SampleStream& stream) {
  return schedule.steps ? *schedule.steps : stream.steps_of_epochs(schedule.epochs);
}

}  // namespace sutor
