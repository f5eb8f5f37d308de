#include "launch/train/trainer.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "checkpoint/huggingface/base_config.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/ops/device/memory.h"
#include "launch/model/expert_ranks.h"
#include "launch/train/best_metric.h"
#include "launch/train/memory_report.h"
#include "launch/train/train_report.h"
#include "recipes/recipe_reader.h"
#include "recipes/recipe_steps.h"

namespace sutor {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void check_lora_init(const LoraOptions& options) {
  const PeftAdapter adapter(*options.init);
  if (adapter.rank() == options.rank && adapter.alpha() == options.alpha) return;
  fail(ErrorCode::kBadValue,
       "lora.init: {} has rank {} and alpha {}, but lora.rank is {} and lora.alpha {}",
       *options.init, adapter.rank(), adapter.alpha(), options.rank, options.alpha);
}

// The number of micro-batches with samples, over all ranks.
int64_t nonempty_micro_batches(int64_t samples, int64_t ranks, int64_t micro_batch) {
  int64_t count = 0;
  for (int64_t r = 0; r < ranks; ++r) {
    count += (leading_range(samples, r, ranks).size() + micro_batch - 1) / micro_batch;
  }
  return std::max<int64_t>(1, count);
}

}  // namespace

Trainer::Trainer(const Recipe& recipe, const ModelSource& source, Comm& world,
                 const SessionOptions& session, const nlohmann::json& provenance)
    : recipe_(recipe),
      world_(world),
      paths_(recipe.output),
      source_(source),
      plan_(make_train_plan(recipe, source.info)),
      stores_(recipe, source.info.vocab_size) {
  open_data();
  check_same_plan(plan_, resolved_yaml(recipe), world);
  base_ = base_digest(source_, world);
  SessionOptions options = session;
  options.decay_matrices_only = recipe.optim.decay == "matrices";
  options.expert_ranks = expert_ranks(recipe, plan_.model, plan_.trainable, world);
  options.lora_seed = recipe.train.seed;
  options.lora_init = recipe.lora.init;
  if (recipe.lora.init) check_lora_init(recipe.lora);
  session_ = std::make_unique<Session>(source_, plan_.model, plan_.trainable, world, options);
  check_marked(plan_.trainable, session_->store());
  optimizer_ = make_optimizer(recipe.optim, recipe.train.seed, session_->store().buffers());
  checkpointer_ = std::make_unique<Checkpointer>(paths_.checkpoints(), base_, plan_,
                                                 session_->store(), *optimizer_, provenance,
                                                 computing_config(source_.directory.config()));
}

void Trainer::open_data() {
  const std::vector<const TokenStore*> train(stores_.train().begin(), stores_.train().end());
  Hasher data;
  for (const TokenStore* store : train) data.update(store->digest().text());
  eval_sets_ = make_eval_sets(recipe_, stores_);
  state_.seed = recipe_.train.seed;
  state_.schedule = step_keys(recipe_, RecipeStep::kTrain);
  state_.data_digest = data.digest().text();
  if (recipe_.train.method == "lora") {
    state_.lora = {{"rank", recipe_.lora.rank}, {"alpha", recipe_.lora.alpha}};
  }
  state_.best_metric =
      recipe_.eval.best.value_or(eval_sets_.empty() ? "" : eval_sets_.front().name + ".loss");
  stream_ = std::make_unique<SampleStream>(train, recipe_.data, recipe_.train.seed,
                                           recipe_.train.global_batch);
  total_steps_ = total_steps(recipe_.schedule, *stream_);
  schedule_ = std::make_unique<LrSchedule>(recipe_.schedule, recipe_.optim.lr, total_steps_);
}

void Trainer::start(const ResumeMode& mode) {
  if (mode.resume) {
    if (!checkpointer_->resume(state_, mode.strict)) {
      fail(ErrorCode::kNoCheckpoint, "--resume: {} holds no checkpoint. Start without --resume.",
           paths_.checkpoints().string());
    }
    std::vector<const TokenStore*> train = stream_->stores();
    stream_ = std::make_unique<SampleStream>(train, recipe_.data, recipe_.train.seed,
                                             recipe_.train.global_batch, state_.cursor);
    last_saved_ = state_.step;
    if (is_root()) fmt::print("resumed at step {} of {}\n", state_.step, total_steps_);
  }
  frozen_before_ = digest_of(session_->store().frozen_tensors());
  resident_bytes_ = ops::memory_use(session_->store().device()).allocated;
  if (!is_root()) return;
  write_file_atomic(paths_.resolved_recipe(), resolved_yaml(recipe_));
  log_ = std::make_unique<MetricsLog>(paths_, recipe_.log.tensorboard, state_.step);
}

void Trainer::run(const ResumeMode& mode) {
  with_memory_report(recipe_, *session_, *optimizer_, [&] { run_steps(mode); });
}

void Trainer::run_steps(const ResumeMode& mode) {
  start(mode);
  if (is_root()) print_banner();
  if (recipe_.eval.before_training && state_.step == 0) evaluate_all(0);
  while (state_.step < total_steps_) {
    const double begin = now_seconds();
    const int64_t step = state_.step + 1;
    const double lr = schedule_->at(step);
    const BatchResult result = train_batch(stream_->next_batch(), step, lr);
    state_.step = step;
    state_.cursor = stream_->cursor();
    log_step(result, step, lr, now_seconds() - begin);
    const bool last = step == total_steps_;
    if (last || (recipe_.eval.every > 0 && step % recipe_.eval.every == 0)) evaluate_all(step);
    if (last || (recipe_.checkpoint.every > 0 && step % recipe_.checkpoint.every == 0)) save(last);
  }
  check_frozen_weights();
}

Trainer::BatchResult Trainer::train_batch(std::span<const Sample> batch, int64_t step, double lr) {
  const int dp_rank = session_->parallel().coordinates().dp;
  const int dp_size = session_->parallel().layout().dp();
  const int64_t micro_batch = recipe_.train.micro_batch;
  const std::vector<MicroBatch> micro =
      rank_micro_batches(stream_->stores(), batch, dp_rank, dp_size, micro_batch);
  const StepInput input{
      micro, supervised_tokens(batch),
      nonempty_micro_batches(static_cast<int64_t>(batch.size()), dp_size, micro_batch)};
  const StepOptions options{.lowest_layer = plan_.trainable.lowest_layer(),
                            .balance_loss = recipe_.train.balance_loss,
                            .recompute = parse_recompute(recipe_.train.recompute),
                            .clip = recipe_.optim.clip,
                            .lr = lr,
                            .step = step};
  return {train_step(*session_, *optimizer_, input, options), token_count(batch), input.supervised};
}

void Trainer::log_step(const BatchResult& result, int64_t step, double lr, double seconds) {
  tokens_seen_ += result.tokens;
  const ops::MemoryUse use = ops::memory_use(session_->store().device());
  int64_t memory[] = {use.peak, use.allocated, use.reserved};
  world_.all_reduce(std::span<int64_t>(memory), ReduceOp::kMax, "peak memory");
  seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
  if (!is_root()) return;
  StepMetrics metrics{
      .step = step, .loss = result.step.loss, .grad_norm = result.step.grad_norm, .lr = lr};
  metrics.tokens = result.tokens;
  metrics.supervised_tokens = result.supervised;
  metrics.tokens_per_s = static_cast<double>(result.tokens) / seconds;
  metrics.peak_memory_bytes = memory[0];
  metrics.allocated_bytes = memory[1];
  metrics.reserved_bytes = memory[2];
  if (recipe_.train.balance_loss > 0) metrics.balance_loss = result.step.balance_loss;
  log_->add(metrics);
  if (step % std::max<int64_t>(1, recipe_.log.every) == 0 || step == total_steps_) {
    const double left = seconds_per_step_ * static_cast<double>(total_steps_ - step);
    fmt::print("{}\n", step_line(metrics, total_steps_, left, use_colour(STDOUT_FILENO)));
    std::fflush(stdout);
  }
}

void Trainer::evaluate_all(int64_t step) {
  for (const EvalSet& set : eval_sets_) {
    EvalMetrics metrics = evaluate(session_->model(), set, step);
    const std::string best = parse_metric_name(state_.best_metric).key;
    std::erase_if(metrics.values, [&](const auto& value) {
      const std::vector<std::string>& wanted = recipe_.eval.metrics;
      return value.first != best &&
             std::find(wanted.begin(), wanted.end(), value.first) == wanted.end();
    });
    if (is_root()) {
      log_->add(metrics);
      fmt::print("{}\n", eval_line(metrics));
      std::fflush(stdout);
    }
    const std::optional<double> value = better_value(state_, metrics);
    if (!value) continue;
    state_.best_value = *value;
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
  print_train_banner(recipe_, plan_, *session_, *optimizer_, stream_->report(), total_steps_);
}

void Trainer::check_frozen_weights() {
  const ops::MemoryUse use = ops::memory_use(session_->store().device());  // before its own buffers
  const FrozenWeightsCheck check =
      run_frozen_weights_check(plan_, *session_, *optimizer_, frozen_before_);
  if (is_root()) {
    print_frozen_weights_check(check, state_, tokens_seen_, total_steps_);
    fmt::print("memory   peak of the steps {} = weights and training state {} + activations {}{}\n",
               format_bytes(use.peak), format_bytes(resident_bytes_),
               format_bytes(use.peak - resident_bytes_),
               use.reserved > use.allocated ? "; reserved " + format_bytes(use.reserved) : "");
  }
  if (!check.frozen_unchanged) {
    fail(ErrorCode::kFrozenChanged,
         "a frozen tensor changed while training: this is a bug in sutor");
  }
}

}  // namespace sutor
