#include "launch/eval/score_model.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

#include "csrc/base/error.h"
#include "csrc/base/process/progress.h"
#include "csrc/base/random.h"
#include "launch/data/micro_batch.h"
#include "launch/data/source_mix.h"
#include "launch/job/stop_request.h"
#include "layers/esft/score_records.h"
#include "layers/parallel/row_collectives.h"
#include "recipes/data_sets.h"

namespace sutor {
namespace {

// The documents that an epoch of the mix takes of each store, shuffled by the seed (with the 64-bit
// Mersenne twister, whose output the C++ standard fixes), truncated to the budget and split into
// segments of at most seq_len.
std::vector<Sample> sample_segments(std::span<const TokenStore* const> stores,
                                    const std::vector<DataSource>& sources, int64_t budget,
                                    int64_t seq_len, uint64_t seed) {
  std::vector<Segment> documents;
  for (const DocumentRef& ref : documents_of_epoch(stores, sources, seed, /*epoch=*/0)) {
    const Document document = stores[ref.store]->document(ref.document);
    documents.push_back({ref.store, document.begin, document.length});
  }
  std::mt19937_64 random(seed);
  shuffle(documents, random);
  std::vector<Sample> segments;
  int64_t left = budget < 0 ? std::numeric_limits<int64_t>::max() : budget;
  for (const Segment& document : documents) {
    for (int64_t at = 0; at < document.length && left > 0; at += seq_len) {
      const int64_t length = std::min({seq_len, document.length - at, left});
      segments.push_back({{{document.store, document.begin + at, length}}, length, 0});
      left -= length;
    }
  }
  return segments;
}

// Where the first half of the sample ends: the end of a segment, but not of the last one, that is
// nearest to the middle; 0 for a sample of one segment.
int64_t middle_of(const std::vector<Sample>& segments) {
  int64_t all = 0;
  for (const Sample& segment : segments) all += segment.tokens;
  int64_t at = 0, best = 0;
  for (const Sample& segment : segments) {
    if (std::abs(2 * at - all) < std::abs(2 * best - all)) best = at;
    at += segment.tokens;
  }
  return best;
}

// The part of the sample that a token counts for.
enum Part : int64_t { kFirstHalf, kSecondHalf, kNotCounted };

// Of each token of a batch that begins at token `begin` of the sample.
std::vector<int64_t> parts_of(const MicroBatch& batch, int64_t begin, int64_t middle,
                              bool supervised_only) {
  std::vector<int64_t> parts(batch.ids.size());
  for (size_t t = 0; t < parts.size(); ++t) {
    const bool counts = !supervised_only || batch.targets[t] != kNoTarget;
    const bool first = begin + static_cast<int64_t>(t) < middle;
    parts[t] = !counts ? kNotCounted : first ? kFirstHalf : kSecondHalf;
  }
  return parts;
}

// Rows of [T, K] data whose position is in a part.
struct CountedRows {
  std::vector<int64_t> idx;
  std::vector<float> weights;
};

CountedRows counted_rows(const at::Tensor& idx, const at::Tensor& weights,
                         std::span<const int64_t> parts, Part part) {
  const int64_t k = idx.size(1);
  CountedRows rows;
  for (int64_t t = 0; t < idx.size(0); ++t) {
    if (parts[t] != part) continue;
    const int64_t* i = idx.data_ptr<int64_t>() + t * k;
    const float* w = weights.data_ptr<float>() + t * k;
    rows.idx.insert(rows.idx.end(), i, i + k);
    rows.weights.insert(rows.weights.end(), w, w + k);
  }
  return rows;
}

std::span<const int64_t> longs(const at::Tensor& x) {
  return {x.data_ptr<int64_t>(), static_cast<size_t>(x.numel())};
}
std::span<const float> floats(const at::Tensor& x) {
  return {x.data_ptr<float>(), static_cast<size_t>(x.numel())};
}

// Rows of the tokens that each rank routes -> those of all tokens of the batch, in order.
at::Tensor whole_batch(const at::Tensor& own, const PackedBatch& batch,
                       const ParallelState& parallel) {
  Comm& tp = parallel.tp();
  const at::Tensor rows =
      gather_rows(own, row_counts(batch.num_tokens(), tp), tp, "routing records");
  return batch.split ? gather_context(rows, *batch.split) : rows;
}

}  // namespace

ScoreResult score_model(const Recipe& recipe, Session& session,
                        std::span<const TokenStore* const> stores,
                        const std::optional<std::filesystem::path>& records) {
  const auto start = std::chrono::steady_clock::now();
  const ModelInfo& model = session.source().info;
  const ScoreOptions& options = recipe.esft.score;
  const ParallelState& parallel = session.parallel();
  const int dp_rank = parallel.coordinates().dp, dp_size = parallel.layout().dp();
  std::vector<int> layers, own_layers;
  for (int layer = 0; layer < model.num_layers; ++layer) {
    if (!model.is_moe(layer)) continue;
    layers.push_back(layer);
    if (parallel.stages().stage_of(layer) == parallel.stage()) own_layers.push_back(layer);
  }
  ScoreResult result{ExpertScores(layers, model.num_experts, model.top_k)};
  result.first_half = result.scores;
  std::optional<RecordWriter> writer;
  if (records && parallel.is_first_of_sample()) {
    const std::string folder = "rank_" + std::to_string(dp_rank);
    writer.emplace(dp_size > 1 ? *records / folder : *records, own_layers);
  }
  const bool supervised_only = options.count == "supervised";
  std::vector<Sample> segments =
      sample_segments(stores, recipe.data.train, options.tokens, recipe.data.seq_len, options.seed);
  const int64_t middle = middle_of(segments);
  const std::vector<Sample> samples =
      joined_samples(std::move(segments), recipe.train.micro_batch * recipe.data.seq_len);
  for (const Sample& sample : samples) result.tokens += sample.tokens;
  // The token of the sample that this rank's next batch begins at.
  const int64_t first_sample =
      leading_range(static_cast<int64_t>(samples.size()), dp_rank, dp_size).begin;
  int64_t begins_at = 0;
  for (int64_t s = 0; s < first_sample; ++s) begins_at += samples[static_cast<size_t>(s)].tokens;

  const int64_t count =
      micro_batch_count(static_cast<int64_t>(samples.size()), dp_size, /*micro_batch=*/1);
  Progress progress("score", result.tokens, "tokens", parallel.world().rank() == 0);
  for (int64_t index = 0; index < count; ++index) {
    leave_if_asked(parallel.world(),
                   fmt::format("while scoring, at batch {} of {}. Nothing is written; the same "
                               "command starts it again",
                               index + 1, count));
    const MicroBatch batch =
        rank_micro_batch(stores, samples, dp_rank, dp_size, /*micro_batch=*/1, index);
    const PackedBatch packed =
        make_context_batch(batch.ids, batch.doc_offsets, parallel.cp(), session.model().device());
    const IndexRange own = session.store().tensor_parallel().rows_of(packed.num_tokens());
    const std::vector<int64_t> parts =
        own_values(packed, parts_of(batch, begins_at, middle, supervised_only));
    begins_at += static_cast<int64_t>(batch.ids.size());
    ForwardContext context{.batch = packed};
    context.on_routing = [&](int layer, const at::Tensor& idx, const at::Tensor&,
                             const at::Tensor& unscaled) {
      const int64_t k = idx.size(1);
      const at::Tensor i = idx.cpu().contiguous(), w = unscaled.cpu().contiguous();
      const std::span<const int64_t> part(parts.data() + own.begin, static_cast<size_t>(i.size(0)));
      for (const auto& [half, into] :
           {std::pair{kFirstHalf, &result.first_half}, {kSecondHalf, &result.scores}}) {
        const CountedRows rows = counted_rows(i, w, part, half);
        into->add(layer, rows.idx, rows.weights, static_cast<int>(k));
      }
      if (!records) return;
      const at::Tensor all_i = whole_batch(idx.contiguous(), packed, parallel).cpu();
      const at::Tensor all_w = whole_batch(unscaled.contiguous(), packed, parallel).cpu();
      if (!writer) return;
      for (size_t d = 0; d + 1 < batch.doc_offsets.size(); ++d) {
        const auto from = static_cast<size_t>(batch.doc_offsets[d] * k);
        const size_t count = static_cast<size_t>(batch.doc_offsets[d + 1] * k) - from;
        writer->add(layer, longs(all_i).subspan(from, count), floats(all_w).subspan(from, count));
      }
    };
    session.model().hidden_states(context);
    progress.set(result.tokens * (index + 1) / count);
  }
  if (writer) writer->close();
  parallel.world().all_reduce(result.first_half.flat(), ReduceOp::kSum, "scores of a half");
  parallel.world().all_reduce(result.scores.flat(), ReduceOp::kSum, "scores");
  result.scores.merge(result.first_half);
  Hasher hasher;
  for (const TokenStore* store : stores) hasher.update(store->digest().text());
  if (is_mixed(recipe.data.train)) hasher.update(mix_text(recipe.data.train));
  for (const int64_t value :
       {options.tokens, static_cast<int64_t>(options.seed), recipe.data.seq_len}) {
    hasher.update_int(value);
  }
  result.sample_digest = hasher.digest();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace sutor
