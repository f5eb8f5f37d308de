#include "launch/evaluate.h"

#include <algorithm>
#include <cmath>

#include "csrc/base/profile.h"
#include "launch/data/micro_batch.h"
#include "layers/head_loss.h"

namespace sutor {
namespace {

// Of the documents of a set: how many targets each has, and how many of them were missed.
struct DocumentCounts {
  explicit DocumentCounts(const TokenStore& store) {
    for (int64_t d = 0; d < store.num_documents(); ++d) begins.push_back(store.document(d).begin);
    targets.resize(begins.size(), 0);
    missed.resize(begins.size(), 0);
  }

  // The pieces of a sample, as they lie in the batch that was made of it.
  void add(const Sample& sample, const MicroBatch& batch, const std::vector<uint8_t>& is_correct) {
    for (size_t p = 0; p < sample.pieces.size(); ++p) {
      const auto next = std::upper_bound(begins.begin(), begins.end(), sample.pieces[p].begin);
      const auto document = static_cast<size_t>(next - begins.begin()) - 1;
      for (int64_t t = batch.doc_offsets[p]; t < batch.doc_offsets[p + 1]; ++t) {
        if (batch.targets[t] == kNoTarget) continue;
        ++targets[document];
        missed[document] += is_correct[t] == 0;
      }
    }
  }

  double exact_share() const {
    int64_t documents = 0, exact = 0;
    for (size_t d = 0; d < targets.size(); ++d) {
      documents += targets[d] > 0;
      exact += targets[d] > 0 && missed[d] == 0;
    }
    return static_cast<double>(exact) / static_cast<double>(std::max<int64_t>(1, documents));
  }

  std::vector<int64_t> begins, targets, missed;
};

}  // namespace

std::vector<EvalSet> make_eval_sets(const Recipe& recipe, const TokenStores& stores) {
  const int64_t per_batch = recipe.data.seq_len * recipe.train.micro_batch;
  std::vector<EvalSet> sets;
  for (size_t i = 0; i < recipe.data.eval.size(); ++i) {
    const TokenStore& store = *stores.eval()[i];
    sets.push_back({data_set_name(recipe.data.eval[i]), &store,
                    joined_samples(eval_samples(store, recipe.data.seq_len).samples, per_batch)});
  }
  return sets;
}

EvalMetrics evaluate(const CausalModel& model, const EvalSet& set, int64_t step,
                     Comm& data_parallel, const ExpertMask& mask) {
  const ProfileScope scope("evaluation");
  const TokenStore* const stores[] = {set.store};
  const int64_t first = rank_share({0, static_cast<int64_t>(set.samples.size())},
                                   data_parallel.rank(), data_parallel.size())
                            .begin;
  DocumentCounts documents(*set.store);
  double sums[3] = {0, 0, 0};  // loss, correct, targets
  const std::vector<MicroBatch> batches = rank_micro_batches(
      stores, set.samples, data_parallel.rank(), data_parallel.size(), /*micro_batch=*/1);
  for (size_t i = 0; i < batches.size(); ++i) {
    const MicroBatch& batch = batches[i];
    const PackedBatch packed = make_packed_batch(batch.ids, batch.doc_offsets);
    ForwardContext context{.batch = packed};
    context.expert_mask = &mask;
    const at::Tensor hidden = model.hidden_states(context);
    const HeadLoss loss = head_loss(hidden, batch.targets, model.head(), 1.0, /*gradient=*/false);
    sums[0] += loss.loss_sum;
    sums[1] += static_cast<double>(loss.correct);
    sums[2] += static_cast<double>(batch.supervised);
    if (!batch.empty()) documents.add(set.samples[first + i], batch, loss.is_correct);
  }
  data_parallel.all_reduce(std::span<double>(sums), ReduceOp::kSum, "evaluation");
  for (std::vector<int64_t>* counts : {&documents.targets, &documents.missed}) {
    data_parallel.all_reduce(std::span<int64_t>(*counts), ReduceOp::kSum, "exact matches");
  }
  EvalMetrics metrics{.step = step, .set = set.name, .tokens = static_cast<int64_t>(sums[2])};
  const double loss = sums[0] / sums[2];
  metrics.values = {{"loss", loss},
                    {"ppl", std::exp(loss)},
                    {"token_acc", sums[1] / sums[2]},
                    {"exact_match", documents.exact_share()}};
  return metrics;
}

}  // namespace sutor
