#include "launch/plan/plan_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <utility>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/data/packing_report.h"
#include "launch/data/rows/row_files.h"
#include "launch/data/run_length.h"
#include "launch/data/token_stores.h"
#include "launch/eval/evaluate.h"
#include "launch/log/metrics_log.h"

namespace sutor {
namespace {

constexpr double kBytesAToken = 4;                    // of rows that nobody tokenized yet
constexpr int64_t kMostSamples = int64_t{1} << 20;    // that are looked at
constexpr int64_t kMostCounted = int64_t{256} << 20;  // bytes of rows that are counted

bool stores_are_there(const Recipe& recipe) {
  const auto there = [&](const DataSource& source) {
    return is_there(token_store_path(recipe, source));
  };
  return !recipe.data.train.empty() &&
         std::all_of(recipe.data.train.begin(), recipe.data.train.end(), there) &&
         std::all_of(recipe.data.eval.begin(), recipe.data.eval.end(), there);
}

// The samples of micro-batches that a rank has in flight, and what makes them large.
struct Candidate {
  std::vector<std::vector<Sample>> batches;
  int64_t tokens = 0, supervised = 0;  // of all
  int64_t exchanged = 0;               // tokens of all ranks of the expert group
  int64_t largest = 0, longest = 0;    // tokens of one batch, of one document
};

int64_t tokens_of(std::span<const Sample> samples) {
  int64_t tokens = 0;
  for (const Sample& sample : samples) tokens += sample.tokens;
  return tokens;
}

void count(std::span<const Sample> samples, Candidate& candidate) {
  int64_t length = 0;
  for (const Sample& sample : samples) {
    candidate.supervised += sample.supervised;
    for (const Segment& segment : sample.segments) {
      length = segment.joins ? length + segment.length : segment.length;
      candidate.longest = std::max(candidate.longest, length);
    }
  }
  const int64_t tokens = tokens_of(samples);
  candidate.tokens += tokens;
  candidate.largest = std::max(candidate.largest, tokens);
  candidate.batches.emplace_back(samples.begin(), samples.end());
}

class LargestBatches {
 public:
  void add(const Candidate& candidate) {
    if (candidate.tokens == 0) return;
    for (size_t way = 0; way < std::size(kWays); ++way) {
      const auto rank_of = [&](const Candidate& c) {
        return std::pair(c.*kWays[way], c.exchanged);
      };
      if (rank_of(candidate) > rank_of(best_[way])) best_[way] = candidate;
    }
  }
  // peers: other ranks of the expert group.
  std::vector<BatchesInFlight> made_of(std::span<const TokenStore* const> stores,
                                       int64_t peers) const {
    std::vector<BatchesInFlight> made;
    for (size_t way = 0; way < std::size(kWays); ++way) {
      const Candidate& best = best_[way];
      // The one with most tokens leads in the other ways too, as a rule.
      if (best.batches.empty() || (way > 0 && best.*kWays[way] == best_[0].*kWays[way])) continue;
      BatchesInFlight& in_flight = made.emplace_back();
      for (const std::vector<Sample>& samples : best.batches) {
        const auto count = static_cast<int64_t>(samples.size());
        in_flight.batches.push_back(micro_batches(stores, samples, {0, count}, count).front());
      }
      if (peers > 0) {
        in_flight.peer_tokens = static_cast<double>(best.exchanged - best.tokens) /
                                static_cast<double>(peers * best.tokens);
      }
    }
    return made;
  }

 private:
  static constexpr int64_t Candidate::*kWays[] = {&Candidate::tokens, &Candidate::exchanged,
                                                  &Candidate::largest, &Candidate::longest,
                                                  &Candidate::supervised};
  Candidate best_[std::size(kWays)];
};

// Micro-batches of a rank that are in flight at a time, of `a_step`.
int64_t in_flight(const Recipe& recipe, int64_t a_step) {
  return std::min<int64_t>(std::max<int64_t>(1, a_step), recipe.parallel.pp + 1);
}

// For each rank with samples of its own, those whose ranks exchange rows with its ranks, itself
// included, as often as they do.
std::vector<std::vector<int>> exchange_groups(const RankLayout& layout) {
  std::vector<std::vector<int>> groups(static_cast<size_t>(layout.dp()));
  for (int rank = layout.world_size() - 1; rank >= 0; --rank) {
    std::vector<int>& group = groups[static_cast<size_t>(layout.coordinates(rank).dp)];
    group.clear();
    for (const int peer : layout.group_of("ep", rank)) {
      group.push_back(layout.coordinates(peer).dp);
    }
  }
  return groups;
}

// The micro-batches of all ranks in a step, [dp][micro-batch].
std::vector<std::vector<std::span<const Sample>>> parts_of(std::span<const Sample> batch,
                                                           int64_t dp, int64_t micro_batch) {
  std::vector<std::vector<std::span<const Sample>>> parts(static_cast<size_t>(dp));
  for (int64_t rank = 0; rank < dp; ++rank) {
    const IndexRange share = leading_range(static_cast<int64_t>(batch.size()), rank, dp);
    for (int64_t begin = share.begin; begin < share.end; begin += micro_batch) {
      const int64_t end = std::min(begin + micro_batch, share.end);
      parts[static_cast<size_t>(rank)].push_back(
          batch.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
    }
  }
  return parts;
}

// All micro-batches of all ranks in the first steps, and what they need most.
std::vector<BatchesInFlight> largest_of_training(const Recipe& recipe, SampleStream& stream,
                                                 int64_t steps, const RankLayout& layout) {
  LargestBatches largest;
  const std::vector<std::vector<int>> groups = exchange_groups(layout);
  int64_t seen = 0;
  for (int64_t step = 0; step < steps && seen < kMostSamples; ++step) {
    const std::span<const Sample> batch = stream.next_batch();
    seen += static_cast<int64_t>(batch.size());
    const auto parts = parts_of(batch, layout.dp(), recipe.train.micro_batch);
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      const size_t count_of_rank = parts[rank].size();
      const auto at_a_time =
          static_cast<size_t>(in_flight(recipe, static_cast<int64_t>(count_of_rank)));
      for (size_t first = 0; first + at_a_time <= count_of_rank; ++first) {
        Candidate candidate;
        for (size_t i = first; i < first + at_a_time; ++i) {
          count(parts[rank][i], candidate);
          for (const int peer : groups[rank]) {
            const auto& of_peer = parts[static_cast<size_t>(peer)];
            if (i < of_peer.size()) candidate.exchanged += tokens_of(of_peer[i]);
          }
        }
        largest.add(candidate);
      }
    }
  }
  return largest.made_of(stream.stores(), layout.ep() - 1);
}

void from_stores(const Recipe& recipe, int64_t vocab_size, const RankLayout& layout, bool print,
                 PlannedData& data) {
  const TokenStores stores(recipe, vocab_size);
  const std::vector<const TokenStore*> train(stores.train().begin(), stores.train().end());
  SampleStream stream(train, recipe.data, recipe.train.seed, recipe.train.global_batch);
  const PackingReport epoch = stream.report();
  data.prepared = true;
  data.steps = total_steps(recipe.schedule, stream);
  data.text = packing_text(recipe.data, epoch);
  check_run_length(recipe, stream, *data.steps, print);
  const int64_t batch = std::min(recipe.train.global_batch, epoch.samples);
  data.steps_an_epoch =
      static_cast<double>(batches_per_epoch(epoch.samples, recipe.train.global_batch));
  data.tokens_a_step =
      static_cast<int64_t>(static_cast<double>(epoch.tokens) / std::max(1.0, *data.steps_an_epoch));
  data.supervised = static_cast<double>(epoch.supervised) /
                    static_cast<double>(std::max<int64_t>(1, epoch.tokens));
  data.micro_batches_a_step = micro_batch_count(batch, layout.dp(), recipe.train.micro_batch);
  data.train = largest_of_training(recipe, stream, *data.steps, layout);
  for (const EvalSet& set : make_eval_sets(recipe, stores)) {
    LargestBatches largest;
    for (const Sample& sample : set.samples) {
      Candidate candidate;
      count({&sample, 1}, candidate);
      largest.add(candidate);
    }
    const TokenStore* const of[] = {set.store};
    for (BatchesInFlight& alone : largest.made_of(of, /*peers=*/0)) {
      data.eval.push_back(std::move(alone.batches.front()));
    }
  }
}

struct Rows {
  int64_t bytes = 0, rows = 0;
  bool counted = true;  // all rows
};

// Of JSON lines; other formats are not opened.
void count_rows(const std::filesystem::path& path, Rows& rows) {
  std::error_code error;
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error) return;
  rows.bytes += size;
  if (path.extension() != ".jsonl" || rows.bytes > kMostCounted) {
    rows.counted = false;
    return;
  }
  std::ifstream file(path, std::ios::binary);
  std::vector<char> buffer(size_t{1} << 20);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0) {
    rows.rows += std::count(buffer.begin(), buffer.begin() + file.gcount(), '\n');
  }
}

MicroBatch full_batch(const Recipe& recipe, int64_t samples) {
  MicroBatch batch;
  const int64_t length = recipe.data.seq_len;
  batch.ids.assign(static_cast<size_t>(samples * length), 0);
  batch.targets.assign(batch.ids.size(), 0);
  batch.sources.assign(batch.ids.size(), 0);
  for (int64_t s = 0; s <= samples; ++s) batch.doc_offsets.push_back(s * length);
  batch.supervised = samples * length;
  return batch;
}

void from_rows(const Recipe& recipe, int64_t dp, PlannedData& data) {
  Rows rows;
  std::string missing;
  for (const DataSource& source : recipe.data.train) {
    if (!is_there(source.path)) {
      missing += (missing.empty() ? "" : ", ") + source.path;
      continue;
    }
    count_rows(source.path, rows);
  }
  const int64_t length = recipe.data.seq_len;
  const int64_t share = std::max<int64_t>(1, recipe.train.global_batch / dp);
  if (!recipe.data.eval.empty()) data.eval.push_back(full_batch(recipe, recipe.train.micro_batch));
  data.micro_batches_a_step =
      micro_batch_count(recipe.train.global_batch, dp, recipe.train.micro_batch);
  data.train.emplace_back().batches.assign(
      static_cast<size_t>(in_flight(recipe, data.micro_batches_a_step)),
      full_batch(recipe, std::min(recipe.train.micro_batch, share)));
  data.tokens_a_step = recipe.train.global_batch * length;
  data.steps = recipe.schedule.steps;
  if (!missing.empty() || recipe.data.train.empty()) {
    data.text = fmt::format("unknown: {}", missing.empty() ? "the recipe names no training data"
                                                           : missing + " is not here");
    return;
  }
  const double tokens = static_cast<double>(rows.bytes) / kBytesAToken;
  double samples = tokens / static_cast<double>(length);
  if (!recipe.data.packing && rows.counted) {
    samples = static_cast<double>(rows.rows);
    data.tokens_a_step = std::min<int64_t>(
        data.tokens_a_step,
        static_cast<int64_t>(tokens / std::max(1.0, samples)) * recipe.train.global_batch);
  }
  samples = std::max(1.0, std::ceil(samples));
  data.steps_an_epoch = std::ceil(samples / static_cast<double>(recipe.train.global_batch));
  if (!data.steps) {
    data.steps = std::max<int64_t>(
        1, static_cast<int64_t>(std::ceil(*data.steps_an_epoch * recipe.schedule.epochs)));
  }
  data.text = fmt::format(
      "not prepared: {}, about {} tokens (estimated: {:.0f} bytes a token; `sutor prepare` counts)",
      rows.counted ? format_count(rows.rows) + " rows" : format_bytes(rows.bytes) + " of rows",
      format_count(static_cast<int64_t>(tokens)), kBytesAToken);
  if (samples < static_cast<double>(recipe.train.global_batch)) {
    data.remarks.push_back(fmt::format(
        "train.global_batch is {}, but an epoch has about {} {}: every step takes all "
        "of them",
        recipe.train.global_batch, samples, recipe.data.packing ? "packs" : "documents"));
  }
}

}  // namespace

PlannedData plan_data(const Recipe& recipe, int64_t vocab_size, const RankLayout& layout,
                      bool print) {
  PlannedData data;
  if (stores_are_there(recipe)) {
    from_stores(recipe, vocab_size, layout, print, data);
  } else {
    from_rows(recipe, layout.dp(), data);
  }
  if (data.steps == 1) data.remarks.push_back(one_step_text());
  return data;
}

}  // namespace sutor
