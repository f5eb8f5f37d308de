#include "launch/trainer.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/ops/memory.h"
#include "launch/micro_step.h"
#include "launch/train_report.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Micro-batches that hold samples, over all ranks.
int64_t non_empty_micro_batches(int64_t samples, int64_t ranks, int64_t micro_batch) {
  int64_t count = 0;
  for (int64_t r = 0; r < ranks; ++r) {
    count += (rank_share({0, samples}, r, ranks).size() + micro_batch - 1) / micro_batch;
  }
  return std::max<int64_t>(1, count);
}

}  // namespace

Trainer::Trainer(const Recipe& recipe, Comm& world, const nlohmann::json& provenance)
    : recipe_(recipe),
      world_(world),
      paths_(recipe.output),
      source_(recipe.model.path),
      plan_(make_train_plan(recipe, source_.info)),
      stores_(recipe, source_.info.vocab_size) {
  open_data();
  check_same_plan(plan_, stage_keys(recipe, Stage::kTrain), world);
  base_ = base_digest(source_.directory, world);
  SessionOptions options{.parallel = recipe.parallel,
                         .dtype = computing_dtype(recipe.model.dtype),
                         .trained = plan_.trainable.names(),
                         .decay_matrices_only = recipe.optim.decay == "matrices"};
  session_ = std::make_unique<Session>(source_, world, options);
  std::vector<std::string> marked;
  for (FlatGroup* group : {&session_->store().dense_group(), &session_->store().expert_group()}) {
    for (size_t i = 0; i < group->size(); ++i) marked.push_back(group->name(i));
  }
  check_marked(plan_, marked, world);
  checkpointer_ = std::make_unique<Checkpointer>(paths_.checkpoints(), base_, plan_,
                                                 session_->store(), provenance);
}

void Trainer::open_data() {
  const std::vector<const TokenStore*> train(stores_.train().begin(), stores_.train().end());
  Hasher data;
  for (const TokenStore* store : train) data.update(store->digest().text());
  const int64_t per_batch = recipe_.data.seq_len * recipe_.train.micro_batch;
  for (size_t i = 0; i < recipe_.data.eval.size(); ++i) {
    eval_sets_.push_back(make_eval_set(data_set_name(recipe_.data.eval[i]), *stores_.eval()[i],
                                       recipe_.data.seq_len, per_batch));
  }
  state_.seed = recipe_.train.seed;
  state_.schedule = stage_keys(recipe_, Stage::kTrain);
  state_.data_digest = data.digest().text();
  state_.best_metric =
      recipe_.eval.best.value_or(eval_sets_.empty() ? "" : eval_sets_.front().name + ".loss");
  stream_ = std::make_unique<SampleStream>(train, recipe_.data, recipe_.train.seed,
                                           recipe_.train.global_batch);
  total_steps_ = total_steps(recipe_.schedule, *stream_);
  schedule_ = std::make_unique<LrSchedule>(recipe_.schedule, recipe_.optim.lr, total_steps_);
}

void Trainer::start(const ResumeMode& mode) {
  if (mode.resume && checkpointer_->resume(state_, mode.strict)) {
    std::vector<const TokenStore*> train = stream_->stores();
    stream_ = std::make_unique<SampleStream>(train, recipe_.data, recipe_.train.seed,
                                             recipe_.train.global_batch, state_.cursor);
    last_saved_ = state_.step;
    if (is_root()) fmt::print("resumed at step {} of {}\n", state_.step, total_steps_);
  }
  frozen_before_ = digest_of(session_->store().frozen_tensors());
  if (!is_root()) return;
  write_file_atomic(paths_.resolved_recipe(), resolved_yaml(recipe_));
  log_ = std::make_unique<MetricsLog>(paths_, recipe_.log.tensorboard, state_.step);
}

void Trainer::run(const ResumeMode& mode) {
  start(mode);
  if (is_root()) print_banner();
  if (recipe_.eval.before_training && state_.step == 0) evaluate_all(0);
  while (state_.step < total_steps_) {
    const double begin = now_seconds();
    const int64_t step = state_.step + 1;
    const double lr = schedule_->at(step);
    const StepResult result = train_step(stream_->next_batch(), step, lr);
    state_.step = step;
    state_.cursor = stream_->cursor();
    log_step(result, step, lr, now_seconds() - begin);
    const bool last = step == total_steps_;
    if (last || (recipe_.eval.every > 0 && step % recipe_.eval.every == 0)) evaluate_all(step);
    if (last || (recipe_.checkpoint.every > 0 && step % recipe_.checkpoint.every == 0)) save(last);
  }
  prove_result();
}

// -------------------------------- one training step --------------------------------
Trainer::StepResult Trainer::train_step(std::span<const Sample> batch, int64_t step, double lr) {
  ParameterStore& store = session_->store();
  Comm& dp = session_->parallel().dp();
  StepResult result;
  result.tokens = token_count(batch);
  result.supervised = supervised_tokens(batch);
  const std::vector<MicroBatch> micro = rank_micro_batches(
      stream_->stores(), batch, dp.rank(), dp.size(), recipe_.train.micro_batch);

  MicroStepOptions options{.lowest_layer = plan_.trainable.lowest_layer()};
  // A batch without any target still routes, so that all ranks stay in step; it moves nothing.
  options.loss_scale = result.supervised > 0 ? 1.0 / static_cast<double>(result.supervised) : 0.0;
  if (recipe_.train.balance_loss > 0) {
    options.balance_weight =
        recipe_.train.balance_loss /
        static_cast<double>(non_empty_micro_batches(static_cast<int64_t>(batch.size()), dp.size(),
                                                    recipe_.train.micro_batch));
  }
  store.dense_group().zero_grad();
  store.expert_group().zero_grad();
  double sums[2] = {0, 0};  // loss, balance loss
  for (const MicroBatch& micro_batch : micro) {
    const MicroStepResult r =
        forward_backward(session_->model(), store, micro_batch, options);
    sums[0] += r.loss_sum;
    sums[1] += r.balance_loss;
  }
  store.expert_group().reduce_gradients();
  store.dense_group().reduce_gradients();
  dp.all_reduce(std::span<double>(sums), ReduceOp::kSum, "step loss");
  result.loss = result.supervised > 0 ? sums[0] / static_cast<double>(result.supervised) : 0;
  result.balance_loss = sums[1];
  result.grad_norm = clip_and_norm();
  if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
    fail(701, "training diverged at step {}: loss {}, gradient norm {}. Try a lower optim.lr; the "
         "last checkpoint is untouched.", step, result.loss, result.grad_norm);
  }
  for (FlatGroup* group : {&store.expert_group(), &store.dense_group()}) {
    group->adamw_step(recipe_.optim, lr, step);
    group->gather_values();
  }
  return result;
}
// ------------------------------------------------------------------------------------

// The norm counts every parameter once: each element is in the chunk of exactly one rank.
double Trainer::clip_and_norm() {
  ParameterStore& store = session_->store();
  double squares = store.expert_group().sum_of_squares() + store.dense_group().sum_of_squares();
  world_.all_reduce(std::span(&squares, 1), ReduceOp::kSum, "gradient norm");
  const double norm = std::sqrt(squares);
  const double factor = recipe_.optim.clip > 0 ? recipe_.optim.clip / (norm + 1e-6) : 1.0;
  if (factor < 1.0) {
    store.expert_group().scale_gradients(static_cast<float>(factor));
    store.dense_group().scale_gradients(static_cast<float>(factor));
  }
  return norm;
}

void Trainer::log_step(const StepResult& result, int64_t step, double lr, double seconds) {
  tokens_seen_ += result.tokens;
  int64_t memory = ops::peak_tensor_bytes();
  world_.all_reduce(std::span(&memory, 1), ReduceOp::kMax, "peak memory");
  seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
  if (!is_root()) return;
  StepMetrics metrics{.step = step, .loss = result.loss, .grad_norm = result.grad_norm, .lr = lr};
  metrics.tokens = result.tokens;
  metrics.supervised_tokens = result.supervised;
  metrics.tokens_per_s = static_cast<double>(result.tokens) / seconds;
  metrics.peak_memory_bytes = memory;
  if (recipe_.train.balance_loss > 0) metrics.balance_loss = result.balance_loss;
  log_->add(metrics);
  if (step % std::max<int64_t>(1, recipe_.log.every) == 0 || step == total_steps_) {
    const double left = seconds_per_step_ * static_cast<double>(total_steps_ - step);
    fmt::print("{}\n", step_line(metrics, total_steps_, left, use_colour(STDOUT_FILENO)));
    std::fflush(stdout);
  }
}

void Trainer::evaluate_all(int64_t step) {
  for (const EvalSet& set : eval_sets_) {
    const EvalMetrics metrics = evaluate(session_->model(), set, step, session_->parallel().dp());
    if (is_root()) {
      log_->add(metrics);
      fmt::print("{}\n", eval_line(metrics));
      std::fflush(stdout);
    }
    const size_t dot = state_.best_metric.rfind('.');
    if (dot == std::string::npos || state_.best_metric.substr(0, dot) != set.name) continue;
    const std::string key = state_.best_metric.substr(dot + 1);
    const auto value = metrics.values.find(key);
    if (value == metrics.values.end() || step == 0) continue;
    const double v = value->second;
    const bool better = key == "token_acc" ? v > state_.best_value : v < state_.best_value;
    if (state_.best_step >= 0 && !better) continue;
    state_.best_value = v;
    state_.best_step = step;
    save(false);
    checkpointer_->mark_best(step);
  }
}

void Trainer::save(bool final) {
  if (last_saved_ == state_.step) return;
  const double begin = now_seconds();
  checkpointer_->save(state_, recipe_.checkpoint.keep);
  last_saved_ = state_.step;
  if (is_root()) {
    fmt::print("saved step-{:08} in {:.1f} s{}\n", state_.step, now_seconds() - begin,
               final ? " (last)" : "");
  }
}

void Trainer::print_banner() const {
  print_train_banner(recipe_, source_.info, plan_, *session_, stream_->report(), total_steps_);
}

void Trainer::prove_result() {
  const Proof proof = make_proof(plan_, *session_, frozen_before_);
  if (is_root()) print_proof(proof, state_, tokens_seen_, total_steps_);
  if (!proof.frozen_unchanged) {
    fail(7004, "a frozen tensor changed while training: this is a bug in sutor");
  }
}

}  // namespace sutor
