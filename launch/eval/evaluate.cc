#include "launch/eval/evaluate.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>

#include "csrc/base/process/progress.h"
#include "csrc/base/profile.h"
#include "csrc/ops/device/host_window.h"
#include "launch/data/micro_batch.h"
#include "launch/job/stop_request.h"
#include "layers/blocks/head_loss.h"

namespace sutor {
namespace {

// Of the documents of a set: how many targets each has, and how many of them were missed.
struct DocumentCounts {
  explicit DocumentCounts(const TokenStore& store) {
    for (int64_t d = 0; d < store.num_documents(); ++d) begins.push_back(store.document(d).begin);
    targets.resize(begins.size(), 0);
    missed.resize(begins.size(), 0);
  }

  // This rank's tokens of the batch that was made of a sample.
  void add(const Sample& sample, const MicroBatch& batch, const PackedBatch& packed,
           std::span<const uint8_t> is_correct) {
    for (size_t i = 0; i < is_correct.size(); ++i) {
      const int64_t t = packed.split ? packed.split->tokens[i] : static_cast<int64_t>(i);
      if (batch.targets[t] == kNoTarget) continue;
      const auto& offsets = batch.doc_offsets;
      const auto segment =
          std::upper_bound(offsets.begin(), offsets.end(), t) - offsets.begin() - 1;
      const auto next =
          std::upper_bound(begins.begin(), begins.end(), sample.segments[segment].begin);
      const auto document = static_cast<size_t>(next - begins.begin()) - 1;
      ++targets[document];
      missed[document] += is_correct[i] == 0;
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

EvalMetrics taken_together(const std::string& name, std::span<const EvalMetrics> sets) {
  EvalMetrics all{.step = sets.front().step, .set = name, .epoch = sets.front().epoch};
  double loss = 0, correct = 0;
  for (const EvalMetrics& set : sets) {
    const auto targets = static_cast<double>(set.tokens);
    loss += targets * set.values.at("loss");
    correct += targets * set.values.at("token_acc");
    all.tokens += set.tokens;
    all.eval_seconds += set.eval_seconds;
  }
  const auto targets = static_cast<double>(all.tokens);
  all.values = {{"loss", loss / targets},
                {"ppl", std::exp(loss / targets)},
                {"token_acc", correct / targets}};
  return all;
}

EvalMetrics evaluate(const CausalModel& model, const EvalSet& set, int64_t step,
                     const ExpertMask& mask) {
  const ProfileScope scope("evaluation");
  const ParallelState& parallel = model.parallel();
  const int dp_rank = parallel.coordinates().dp, dp_size = parallel.layout().dp();
  const TokenStore* const stores[] = {set.store};
  DocumentCounts documents(*set.store);
  ExpertMask mask_on_device;
  for (const auto& [layer, allowed] : mask) {
    mask_on_device[layer] = ops::to_device(allowed, model.device());
  }
  double sums[3] = {0, 0, 0};  // loss, correct, targets
  const auto samples = static_cast<int64_t>(set.samples.size());
  const int64_t first = leading_range(samples, dp_rank, dp_size).begin;
  const int64_t count = micro_batch_count(samples, dp_size, /*micro_batch=*/1);
  int64_t tokens = 0;
  for (const Sample& sample : set.samples) tokens += sample.tokens;
  Progress progress(fmt::format("evaluation of {}", set.name), tokens, "tokens",
                    parallel.world().rank() == 0);
  for (int64_t i = 0; i < count; ++i) {
    progress.set(tokens * i / count);
    leave_if_asked(parallel.world(), fmt::format("in the evaluation of {}, at batch {} of {}. The "
                                                 "same command starts it again",
                                                 set.name, i + 1, count));
    const MicroBatch batch =
        rank_micro_batch(stores, set.samples, dp_rank, dp_size, /*micro_batch=*/1, i);
    const PackedBatch packed =
        make_context_batch(batch.ids, batch.doc_offsets, parallel.cp(), model.device());
    ForwardContext context{.batch = packed};
    context.expert_mask = &mask_on_device;
    const at::Tensor hidden = model.hidden_states(context);
    if (!parallel.is_last_stage()) continue;
    const std::vector<int64_t> targets = own_values(packed, batch.targets);
    const HeadLoss loss = head_loss(hidden, targets, model.head(), model.tensor_parallel(), 1.0,
                                    /*gradient=*/false);
    if (parallel.coordinates().tp > 0) continue;  // the same as on the first rank
    sums[0] += loss.loss_sum.item<double>();
    const at::Tensor is_correct = loss.is_correct.cpu();
    const std::span correct(is_correct.data_ptr<uint8_t>(),
                            static_cast<size_t>(is_correct.numel()));
    sums[1] += static_cast<double>(std::count(correct.begin(), correct.end(), 1));
    for (const int64_t target : targets) sums[2] += target != kNoTarget;
    if (!batch.empty()) documents.add(set.samples[first + i], batch, packed, correct);
  }
  Comm& world = parallel.world();
  world.all_reduce(std::span<double>(sums), ReduceOp::kSum, "evaluation");
  for (std::vector<int64_t>* counts : {&documents.targets, &documents.missed}) {
    world.all_reduce(std::span<int64_t>(*counts), ReduceOp::kSum, "exact matches");
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
