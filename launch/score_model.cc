#include "launch/score_model.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

#include "csrc/base/error.h"
#include "launch/data/micro_batch.h"
#include "layers/esft/score_records.h"

namespace sutor {
namespace {

// The documents of all stores, shuffled by the seed (Fisher-Yates over the 64-bit Mersenne twister,
// whose output the C++ standard fixes), cut to the budget and into pieces of at most seq_len.
std::vector<Sample> sample_pieces(std::span<const TokenStore* const> stores, int64_t budget,
                                  int64_t seq_len, uint64_t seed) {
  std::vector<Piece> documents;
  for (size_t s = 0; s < stores.size(); ++s) {
    for (int64_t d = 0; d < stores[s]->num_documents(); ++d) {
      const Document document = stores[s]->document(d);
      documents.push_back({static_cast<int>(s), document.begin, document.length});
    }
  }
  std::mt19937_64 random(seed);
  for (size_t i = documents.size(); i > 1; --i)
    std::swap(documents[i - 1], documents[random() % i]);
  std::vector<Sample> pieces;
  int64_t left = budget < 0 ? std::numeric_limits<int64_t>::max() : budget;
  for (const Piece& document : documents) {
    for (int64_t at = 0; at < document.length && left > 0; at += seq_len) {
      const int64_t length = std::min({seq_len, document.length - at, left});
      pieces.push_back({{{document.store, document.begin + at, length}}, length, 0});
      left -= length;
    }
  }
  return pieces;
}

// Rows of [T, K] data whose position counts.
struct CountedRows {
  std::vector<int64_t> idx;
  std::vector<float> weights;
};

CountedRows counted_rows(const at::Tensor& idx, const at::Tensor& weights,
                         const std::vector<int64_t>& targets) {
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

}  // namespace

ScoreResult score_model(const Recipe& recipe, Session& session,
                        std::span<const TokenStore* const> stores,
                        const std::optional<std::filesystem::path>& records) {
  const auto begin = std::chrono::steady_clock::now();
  const ModelInfo& model = session.source().info;
  const ScoreOptions& options = recipe.esft.score;
  Comm& dp = session.parallel().dp();
  std::vector<int> layers;
  for (int layer = 0; layer < model.num_layers; ++layer) {
    if (model.is_moe(layer)) layers.push_back(layer);
  }
  ScoreResult result{ExpertScores(layers, model.num_experts, model.top_k)};
  std::optional<RecordWriter> writer;
  if (records) {
    const std::string folder = "rank_" + std::to_string(dp.rank());
    writer.emplace(dp.size() > 1 ? *records / folder : *records, layers);
  }
  const bool supervised_only = options.count == "supervised";
  const std::vector<Sample> samples =
      joined_samples(sample_pieces(stores, options.tokens, recipe.data.seq_len, options.seed),
                     recipe.train.micro_batch * recipe.data.seq_len);
  for (const Sample& sample : samples) result.tokens += sample.tokens;

  for (const MicroBatch& batch :
       rank_micro_batches(stores, samples, dp.rank(), dp.size(), /*micro_batch=*/1)) {
    const PackedBatch packed = make_packed_batch(batch.ids, batch.doc_offsets);
    ForwardContext context{.batch = packed};
    context.on_routing = [&](int layer, const at::Tensor& idx, const at::Tensor&,
                             const at::Tensor& unscaled) {
      const int64_t k = idx.size(1);
      const at::Tensor i = idx.contiguous(), w = unscaled.contiguous();
      if (supervised_only) {
        const CountedRows rows = counted_rows(i, w, batch.targets);
        result.scores.add(layer, rows.idx, rows.weights, static_cast<int>(k));
      } else {
        result.scores.add(layer, {i.data_ptr<int64_t>(), static_cast<size_t>(i.numel())},
                          {w.data_ptr<float>(), static_cast<size_t>(w.numel())},
                          static_cast<int>(k));
      }
      if (!writer) return;
      for (size_t d = 0; d + 1 < batch.doc_offsets.size(); ++d) {
        const int64_t from = batch.doc_offsets[d] * k;
        const size_t count = static_cast<size_t>(batch.doc_offsets[d + 1] * k - from);
        writer->add(layer, {i.data_ptr<int64_t>() + from, count},
                    {w.data_ptr<float>() + from, count});
      }
    };
    session.model().hidden_states(context);
  }
  if (writer) writer->close();
  dp.all_reduce(result.scores.flat(), ReduceOp::kSum, "scores");
  Hasher hasher;
  for (const TokenStore* store : stores) hasher.update(store->digest().text());
  for (const int64_t value :
       {options.tokens, static_cast<int64_t>(options.seed), recipe.data.seq_len}) {
    hasher.update_int(value);
  }
  result.sample_digest = hasher.digest();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace sutor
