#include "launch/evaluate.h"

#include <cmath>

#include "launch/data/micro_batch.h"
#include "layers/head_loss.h"

namespace sutor {

EvalSet make_eval_set(const std::string& name, const TokenStore& store, int64_t seq_len,
                      int64_t tokens_per_batch) {
  EvalSet set{name, &store, {}};
  for (Sample& sample : eval_samples(store, seq_len).samples) {
    if (set.samples.empty() || set.samples.back().tokens + sample.tokens > tokens_per_batch) {
      set.samples.push_back(std::move(sample));
      continue;
    }
    Sample& pack = set.samples.back();
    pack.pieces.insert(pack.pieces.end(), sample.pieces.begin(), sample.pieces.end());
    pack.tokens += sample.tokens;
    pack.supervised += sample.supervised;
  }
  return set;
}

EvalMetrics evaluate(const CausalModel& model, const EvalSet& set, int64_t step,
                     Comm& data_parallel) {
  const TokenStore* const stores[] = {set.store};
  double sums[3] = {0, 0, 0};  // loss, correct, targets
  for (const MicroBatch& batch : rank_micro_batches(stores, set.samples, data_parallel.rank(),
                                                    data_parallel.size(), /*micro_batch=*/1)) {
    const PackedBatch packed = make_packed_batch(batch.ids, batch.doc_offsets);
    ForwardContext context{.batch = packed};
    const at::Tensor hidden = model.hidden_states(context);
    const HeadLoss loss = head_loss(hidden, batch.targets, model.head(), 1.0, /*gradient=*/false);
    sums[0] += loss.loss_sum;
    sums[1] += static_cast<double>(loss.correct);
    sums[2] += static_cast<double>(batch.supervised);
  }
  data_parallel.all_reduce(std::span<double>(sums), ReduceOp::kSum, "evaluation");
  EvalMetrics metrics{.step = step, .set = set.name, .tokens = static_cast<int64_t>(sums[2])};
  const double loss = sums[0] / sums[2];
  metrics.values = {{"loss", loss}, {"ppl", std::exp(loss)}, {"token_acc", sums[1] / sums[2]}};
  return metrics;
}

}  // namespace sutor
