#include "launch/plan/plan_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

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

// Which samples of a batch a micro-batch is made of, and what makes it large.
struct Candidate {
  std::vector<Sample> samples;
  int64_t tokens = 0, longest = 0, supervised = 0;
};

Candidate candidate_of(std::span<const Sample> samples) {
  Candidate candidate;
  int64_t length = 0;
  for (const Sample& sample : samples) {
    candidate.tokens += sample.tokens;
    candidate.supervised += sample.supervised;
    for (const Segment& segment : sample.segments) {
      length = segment.joins ? length + segment.length : segment.length;
      candidate.longest = std::max(candidate.longest, length);
    }
  }
  candidate.samples.assign(samples.begin(), samples.end());
  return candidate;
}

class LargestBatches {
 public:
  void add(std::span<const Sample> samples) {
    if (samples.empty()) return;
    Candidate candidate = candidate_of(samples);
    if (candidate.longest > longest_.longest) longest_ = candidate;
    if (candidate.supervised > supervised_.supervised) supervised_ = candidate;
    if (candidate.tokens > most_.tokens) most_ = std::move(candidate);
  }
  std::vector<MicroBatch> made_of(std::span<const TokenStore* const> stores) const {
    std::vector<MicroBatch> batches;
    for (const Candidate* candidate : {&most_, &longest_, &supervised_}) {
      if (candidate->samples.empty()) continue;
      // The one with most tokens leads in the other ways too, as a rule.
      if (candidate == &longest_ && longest_.longest == most_.longest) continue;
      if (candidate == &supervised_ && supervised_.supervised == most_.supervised) continue;
      const auto count = static_cast<int64_t>(candidate->samples.size());
      batches.push_back(micro_batches(stores, candidate->samples, {0, count}, count).front());
    }
    return batches;
  }

 private:
  Candidate most_, longest_, supervised_;
};

// All micro-batches of all ranks in the first steps, and what they need most.
std::vector<MicroBatch> largest_of_training(const Recipe& recipe, SampleStream& stream,
                                            int64_t steps, int64_t dp) {
  LargestBatches largest;
  int64_t seen = 0;
  for (int64_t step = 0; step < steps && seen < kMostSamples; ++step) {
    const std::span<const Sample> batch = stream.next_batch();
    const auto count = static_cast<int64_t>(batch.size());
    seen += count;
    for (int64_t rank = 0; rank < dp; ++rank) {
      const IndexRange share = leading_range(count, rank, dp);
      for (int64_t begin = share.begin; begin < share.end; begin += recipe.train.micro_batch) {
        const int64_t end = std::min(begin + recipe.train.micro_batch, share.end);
        largest.add(batch.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
      }
    }
  }
  return largest.made_of(stream.stores());
}

void from_stores(const Recipe& recipe, int64_t vocab_size, int64_t dp, bool print,
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
  data.tokens_a_step = epoch.tokens * batch / std::max<int64_t>(1, epoch.samples);
  data.supervised = static_cast<double>(epoch.supervised) /
                    static_cast<double>(std::max<int64_t>(1, epoch.tokens));
  data.micro_batches_a_step = micro_batch_count(batch, dp, recipe.train.micro_batch);
  data.train = largest_of_training(recipe, stream, *data.steps, dp);
  for (const EvalSet& set : make_eval_sets(recipe, stores)) {
    LargestBatches largest;
    for (const Sample& sample : set.samples) largest.add({&sample, 1});
    const TokenStore* const of[] = {set.store};
    for (MicroBatch& batch_of_set : largest.made_of(of)) {
      data.eval.push_back(std::move(batch_of_set));
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
  data.train.push_back(full_batch(recipe, std::min(recipe.train.micro_batch, share)));
  if (!recipe.data.eval.empty()) data.eval.push_back(full_batch(recipe, recipe.train.micro_batch));
  data.micro_batches_a_step =
      micro_batch_count(recipe.train.global_batch, dp, recipe.train.micro_batch);
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

PlannedData plan_data(const Recipe& recipe, int64_t vocab_size, int64_t dp, bool print) {
  PlannedData data;
  if (stores_are_there(recipe)) {
    from_stores(recipe, vocab_size, dp, print, data);
  } else {
    from_rows(recipe, dp, data);
  }
  if (data.steps == 1) data.remarks.push_back(one_step_text());
  return data;
}

}  // namespace sutor
