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

// Rows of [T, K] data whose position counts.
struct CountedRows {
  std::vector<int64_t> idx;
  std::vector<float> weights;
};

CountedRows counted_rows(const at::Tensor& idx, const at::Tensor& weights,
                         std::span<const int64_t> targets) {
  const int64_t k = idx.size(1);
  CountedRows rows;
  for (int64_t t = 0; t < idx.size(0); ++t) {
    if (targets[t] == kNoTarget) continue;
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
  const auto begin = std::chrono::steady_clock::now();
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
  std::optional<RecordWriter> writer;
  if (records && parallel.is_first_of_sample()) {
    const std::string folder = "rank_" + std::to_string(dp_rank);
    writer.emplace(dp_size > 1 ? *records / folder : *records, own_layers);
  }
  const bool supervised_only = options.count == "supervised";
  const std::vector<Sample> samples = joined_samples(
      sample_segments(stores, recipe.data.train, options.tokens, recipe.data.seq_len, options.seed),
      recipe.train.micro_batch * recipe.data.seq_len);
  for (const Sample& sample : samples) result.tokens += sample.tokens;

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
    const std::vector<int64_t> targets = own_values(packed, batch.targets);
    ForwardContext context{.batch = packed};
    context.on_routing = [&](int layer, const at::Tensor& idx, const at::Tensor&,
                             const at::Tensor& unscaled) {
      const int64_t k = idx.size(1);
      const at::Tensor i = idx.cpu().contiguous(), w = unscaled.cpu().contiguous();
      if (supervised_only) {
        const CountedRows rows =
            counted_rows(i, w, {targets.data() + own.begin, static_cast<size_t>(i.size(0))});
        result.scores.add(layer, rows.idx, rows.weights, static_cast<int>(k));
      } else {
        result.scores.add(layer, longs(i), floats(w), static_cast<int>(k));
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
  parallel.world().all_reduce(result.scores.flat(), ReduceOp::kSum, "scores");
  Hasher hasher;
  for (const TokenStore* store : stores) hasher.update(store->digest().text());
  if (is_mixed(recipe.data.train)) hasher.update(mix_text(recipe.data.train));
  for (const int64_t value :
       {options.tokens, static_cast<int64_t>(options.seed), recipe.data.seq_len}) {
    hasher.update_int(value);
  }
  result.sample_digest = hasher.digest();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace sutor
