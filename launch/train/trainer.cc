#include "launch/train/trainer.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "checkpoint/huggingface/base_config.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/process/progress.h"
#include "csrc/base/text/json.h"
#include "csrc/ops/device/memory.h"
#include "launch/checkpoints/best_checkpoint.h"
#include "launch/checkpoints/fork.h"
#include "launch/data/run_length.h"
#include "launch/eval/set_scores.h"
#include "launch/job/agreement.h"
#include "launch/job/current_error.h"
#include "launch/job/stop_request.h"
#include "launch/log/evaluation_rows.h"
#include "launch/model/expert_ranks.h"
#include "launch/train/best_metric.h"
#include "launch/train/losses/balance_loss.h"
#include "launch/train/memory_report.h"
#include "launch/train/model_flops.h"
#include "launch/train/record/diverged_batch.h"
#include "launch/train/record/training_facts.h"
#include "launch/train/train_report.h"
#include "launch/train/watch/watch_of_training.h"
#include "recipes/data_sets.h"
#include "recipes/recipe_reader.h"
#include "recipes/recipe_steps.h"

namespace sutor {
namespace {

constexpr double kLineSeconds = 1;  // between lines of steps on a terminal
// Then most of what a step ever takes has been seen.
constexpr int64_t kStepsBeforePlan = 3;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// `model`: with the pairs of lora.targets.
void check_lora_init(const LoraOptions& options, const ModelInfo& model) {
  const PeftAdapter adapter(*options.init);
  adapter.check_pairs(model.tensors);
  // alpha may be a root, as that of use_rslora.
  const bool same_alpha = std::abs(adapter.alpha() - options.alpha) <= 1e-9 * adapter.alpha();
  if (adapter.rank() == options.rank && same_alpha) return;
  fail(ErrorCode::kBadValue,
       "lora.init: {} has rank {} and alpha {:.12g}, but lora.rank is {} and lora.alpha {}",
       *options.init, adapter.rank(), adapter.alpha(), options.rank, options.alpha);
}

}  // namespace

Trainer::Trainer(const Recipe& recipe, const ModelSource& source, Comm& world,
                 const SessionOptions& session, const nlohmann::json& provenance)
    : recipe_(recipe),
      world_(world),
      paths_(recipe.output),
      source_(source),
      plan_(make_train_plan(recipe, source.info)),
      options_(session),
      provenance_(provenance),
      stores_(recipe, source.info.vocab_size),
      early_stop_(recipe.early_stop) {
  open_data();
  check_same_plan(plan_, resolved_yaml(recipe), world);
  options_.decay_matrices_only = recipe.optim.decay == "matrices";
  options_.expert_ranks = expert_ranks(recipe, plan_.model, plan_.trainable, world);
  options_.lora_seed = recipe.train.seed;
  options_.lora_init = recipe.lora.init;
  if (recipe.lora.init) check_lora_init(recipe.lora, plan_.model);
}

void Trainer::load() {
  base_ = base_digest(source_, world_);
  session_ = std::make_unique<Session>(source_, plan_.model, plan_.trainable, world_, options_);
  check_marked(plan_.trainable, session_->store());
  optimizer_ = make_optimizer(recipe_.optim, recipe_.train.seed, session_->store().buffers());
  flops_per_token_ = training_flops_per_token(plan_.model, plan_.trainable);
  peak_flops_ = peak_flops(options_.device_text, recipe_.model.dtype);
  if (peak_flops_) *peak_flops_ *= world_.size();
  checkpointer_ = std::make_unique<Checkpointer>(paths_.checkpoints(), base_, plan_,
                                                 session_->store(), *optimizer_, provenance_,
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
  state_.best_metric = recipe_.eval.best.value_or(default_best(recipe_));
  stream_ = std::make_unique<SampleStream>(train, recipe_.data, recipe_.train.seed,
                                           recipe_.train.global_batch);
  state_.leaves_out = leaves_out(stream_->report());
  total_steps_ = total_steps(recipe_.schedule, *stream_);
  schedule_ = std::make_unique<LrSchedule>(recipe_.schedule, recipe_.optim.lr, total_steps_);
  check_run_length(recipe_, *stream_, total_steps_, is_root());
  if (total_steps_ == 1 && is_root()) fmt::print(stderr, "note: {}\n", one_step_text());
}

void Trainer::start(const ResumeMode& mode) {
  if (mode.resume && checkpointer_->resume(state_, mode.strict)) {
    std::vector<const TokenStore*> train = stream_->stores();
    stream_ = std::make_unique<SampleStream>(train, recipe_.data, recipe_.train.seed,
                                             recipe_.train.global_batch, state_.cursor);
    last_saved_ = state_.step;
    if (is_root()) fmt::print("resumed at step {} of {}\n", state_.step, total_steps_);
  } else if (mode.resume && is_root()) {
    // A requeued job always says --resume, also when it was killed before it had saved anything.
    fmt::print("{} holds no checkpoint: starting from the beginning\n",
               paths_.checkpoints().string());
  }
  if (last_saved_ < 0) begin(mode);
  frozen_before_ = digest_of(session_->store().frozen_tensors());
  resident_bytes_ = ops::memory_use(session_->store().device()).allocated;
  const int64_t every = recipe_.checkpoint.every;
  if (recipe_.checkpoint.async && every > 0 && every < total_steps_) checkpointer_->reserve();
  on_rank_0(world_, "open the logs", [&] {
    const std::string origin =
        state_.fork.is_null() ? "" : fmt::format("# a fork of {}\n", fork_text(state_.fork));
    write_file_atomic(paths_.resolved_recipe(), origin + resolved_yaml(recipe_));
    log_ = std::make_unique<MetricsLog>(paths_, recipe_.log.tensorboard, state_.step);
    if (recipe_.log.wandb.project) {
      wandb_ = std::make_unique<WandbRun>(recipe_, paths_, mode.resume);
      log_->tell([this](const nlohmann::ordered_json& row) { wandb_->log(row); });
    }
    watch_ = watch_of_training(recipe_, plan_.model, plan_.trainable, base_.text(), total_steps_);
    record_ = std::make_unique<RunRecord>(
        run_record_path(paths_), mode.resume,
        training_facts(recipe_, plan_.model, plan_.trainable, *session_, provenance_, base_,
                       stream_->report(), state_.step, total_steps_));
  });
  routing_ = std::make_unique<RoutingCounter>(plan_.model, session_->store().device());
  if (state_.step > 0) {
    restore_best();
    restore_early_stop();
  }
}

// What is on the disk says from now on whether the training is a fork, also before its first
// checkpoint.
void Trainer::begin(const ResumeMode& mode) {
  state_.fork = mode.fork;
  if (!state_.fork.is_null()) {
    checkpointer_->begin_from(state_);
    if (is_root()) {
      fmt::print("fork     of {}: its {}\n", fork_text(state_.fork),
                 state_.fork.at("takes").get<std::string>());
    }
  }
  on_rank_0(world_, "note the fork", [&] {
    if (!state_.fork.is_null()) {
      write_file_atomic(paths_.fork(), dump_json(state_.fork, 2) + "\n");
      return;
    }
    std::error_code error;
    std::filesystem::remove(paths_.fork(), error);  // of a training that is gone
  });
}

void Trainer::restore_early_stop() {
  const std::string found = from_rank_0(world_, "read evaluations", [&] {
    nlohmann::json rows = nlohmann::json::array();
    for (const EvalMetrics& row : read_evaluations(paths_.evaluations())) {
      rows.push_back({row.step, row.set, row.values});
    }
    return rows.dump();
  });
  for (const nlohmann::json& row : nlohmann::json::parse(found)) {
    EvalMetrics metrics{.step = row[0], .set = row[1]};
    row[2].get_to(metrics.values);
    early_stop_.add(metrics);
  }
}

void Trainer::end_wandb(int exit_code) {
  if (!wandb_) return;
  nlohmann::ordered_json summary = {{"steps", state_.step}, {"tokens", tokens_seen_}};
  if (state_.best_step >= 0) {
    summary["best_metric"] = state_.best_metric;
    summary["best_value"] = state_.best_value;
    summary["best_step"] = state_.best_step;
  }
  wandb_->finish(exit_code, summary);
}

bool Trainer::watches(int64_t step) const {
  return is_watched(recipe_, plan_.model, step, total_steps_);
}

// BEST may lead elsewhere after a crash, and another metric may decide from now on: what counts are
// the evaluations on the disk.
void Trainer::restore_best() {
  const std::string found = from_rank_0(world_, "find the best checkpoint", [&] {
    const BestValue best =
        best_of({state_.best_metric, state_.best_value, state_.best_step},
                read_evaluations(paths_.evaluations()), paths_.checkpoints(), state_.step);
    return nlohmann::json::array({best.value, best.step}).dump();
  });
  const nlohmann::json best = nlohmann::json::parse(found);
  state_.best_value = best[0];
  state_.best_step = best[1];
  checkpointer_->mark_best(state_.best_step);
}

// A job that was killed between a checkpoint and the evaluations of its step.
void Trainer::evaluate_missing() {
  if (!evaluation_due(state_.step)) return;
  const std::string done = from_rank_0(world_, "find evaluations", [&] {
    nlohmann::json sets = nlohmann::json::array();
    for (const EvalMetrics& row : read_evaluations(paths_.evaluations())) {
      if (row.step == state_.step) sets.push_back(row.set);
    }
    return sets.dump();
  });
  auto sets = nlohmann::json::parse(done).get<std::set<std::string>>();
  // What is taken together is measured together.
  const std::string together = held_out_together(recipe_);
  if (!together.empty() && sets.count(together) == 0) {
    for (const DataSource& set : recipe_.data.eval) {
      if (!set.held_out_of.empty()) sets.erase(data_set_name(set));
    }
  }
  evaluate_or_stop(state_.step, sets);
}

bool Trainer::evaluation_due(int64_t step) const {
  return step >= total_steps_ || (recipe_.eval.every > 0 && step % recipe_.eval.every == 0);
}

void Trainer::run(const ResumeMode& mode) {
  with_memory_report(recipe_, *session_, *optimizer_, [&] { run_recorded(mode); });
}

void Trainer::run_recorded(const ResumeMode& mode) {
  try {
    run_steps(mode);
  } catch (...) {
    const Error error = current_error();
    if (record_) {
      record_->end(error.code() == ErrorCode::kStopped ? "stopped" : "failed",
                   fmt::format("error[{}]: {}", error.code(), error.what()));
    }
    throw;
  }
  if (record_) record_->end("finished", "");
}

void Trainer::run_steps(const ResumeMode& mode) {
  leave_if_asked(world_, "before the first step. Nothing is lost, nothing new is saved");
  checkpointer_->on_published(mode.published);
  start(mode);
  if (is_root()) print_banner();
  try {
    if (state_.step > 0) {
      evaluate_missing();
    } else if (recipe_.eval.before_training) {
      evaluate_or_stop(0);
    }
    train_to_end();
  } catch (const Error& error) {
    // All ranks diverge together: the save in flight is of weights that were good.
    if (error.code() == ErrorCode::kDiverged) checkpointer_->finish();
    throw;
  }
  check_frozen_weights();
  end_wandb(kExitOk);
}

void Trainer::train_to_end() {
  while (state_.step < total_steps_ && !early_stop_.due()) {
    const double begin = now_seconds();
    const int64_t step = state_.step + 1;
    const double lr = schedule_->at(step);
    const BatchResult result = train_batch(step, lr);
    state_.step = step;
    state_.cursor = stream_->cursor();
    const StepEnd end = log_step(result, step, lr, now_seconds() - begin);
    checkpointer_->at_step(end.saves_progress);
    if (planned_ && (steps_done_ == kStepsBeforePlan || step == total_steps_)) {
      set_plan_beside_measurement(/*print=*/steps_done_ <= kStepsBeforePlan);
    }
    if (end.signal != 0) stop(end.signal, fmt::format("after step {} of {}", step, total_steps_));
    if (evaluation_due(step)) evaluate_or_stop(step);
    const bool last = step == total_steps_ || early_stop_.due();
    if (last || end.log_failed ||
        (recipe_.checkpoint.every > 0 && step % recipe_.checkpoint.every == 0)) {
      save(last || end.log_failed);
    }
    if (end.log_failed) break;
  }
  if (early_stop_.due() && is_root()) {
    fmt::print("early stop at step {} of {}: {}\n", state_.step, total_steps_, early_stop_.text());
    std::fflush(stdout);
  }
  checkpointer_->finish();
  on_rank_0(world_, "write the logs", [&] {
    log_->sync();
    if (const auto& error = log_->error()) {
      throw Error(error->code(), fmt::format("{} The training is saved at step {}: --resume goes "
                                             "on with it.",
                                             error->what(), state_.step));
    }
  });
}

Trainer::BatchResult Trainer::train_batch(int64_t step, double lr) {
  const double begin = now_seconds();
  const std::span<const Sample> batch = stream_->next_batch();
  const int dp_rank = session_->parallel().coordinates().dp;
  const int dp_size = session_->parallel().layout().dp();
  const int64_t micro_batch = recipe_.train.micro_batch;
  const std::vector<MicroBatch> micro =
      rank_micro_batches(stream_->stores(), batch, dp_rank, dp_size, micro_batch);
  const double data_seconds = now_seconds() - begin;
  StepInput input{micro, supervised_tokens(batch), sequence_count(batch), token_count(batch)};
  const size_t sources = stream_->stores().size();
  if (sources > 1) input.supervised_by_source = supervised_by_store(batch, sources);
  StepOptions options{.lowest_layer = plan_.trainable.lowest_layer(),
                      .balance_loss = recipe_.train.balance_loss,
                      .balance_over = balance_over(recipe_, source_.directory.config()),
                      .recompute = parse_recompute(recipe_.train.recompute),
                      .clip = recipe_.optim.clip,
                      .lr = lr,
                      .step = step,
                      .optimizer_step = state_.optimizer_steps + step};
  if (watches(step)) {
    options.on_routing = [this](int layer, const at::Tensor& topk_idx, const at::Tensor&,
                                const at::Tensor& unscaled) {
      routing_->add(layer, topk_idx, unscaled);
    };
  }
  // Of samples as rank_samples() numbers them.
  const auto samples_of = [&](int micro) {
    return rank_samples(batch, dp_rank, dp_size, micro_batch, micro);
  };
  options.document_name = [&](int micro, int64_t document) {
    return document_name(stream_->stores(), samples_of(micro), document);
  };
  options.on_divergence = [&](const Divergence& divergence, const StepResult& result) {
    if (divergence.micro_batch < 0) return;
    write_diverged_batch(paths_, {step, result.loss, result.grad_norm, divergence.place},
                         stream_->stores(), samples_of(divergence.micro_batch),
                         micro[static_cast<size_t>(divergence.micro_batch)]);
  };
  return {train_step(*session_, *optimizer_, input, options), input.tokens, input.supervised,
          data_seconds, input.supervised_by_source};
}

Trainer::StepEnd Trainer::log_step(const BatchResult& result, int64_t step, double lr,
                                   double seconds) {
  tokens_seen_ += result.tokens;
  const ops::MemoryUse use = ops::memory_use(session_->store().device());
  // The last one tells all ranks what rank 0 met when it wrote the step before.
  int64_t most[] = {use.peak,      use.allocated,
                    use.reserved,  checkpointer_->progress(),
                    stop_signal(), is_root() && log_->error() ? 1 : 0};
  world_.all_reduce(std::span<int64_t>(most), ReduceOp::kMax, "end of step");
  const StepEnd end{
      .saves_progress = most[3], .signal = static_cast<int>(most[4]), .log_failed = most[5] != 0};
  if (++steps_done_ > 1) measured_seconds_ += seconds;
  seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
  std::optional<ExpertScores> counts;
  if (watches(step)) counts = routing_->take(world_);
  if (!is_root()) return end;
  StepMetrics metrics{
      .step = step, .loss = result.step.loss, .grad_norm = result.step.grad_norm, .lr = lr};
  metrics.tokens = result.tokens;
  metrics.supervised_tokens = result.supervised;
  metrics.tokens_per_s = static_cast<double>(result.tokens) / seconds;
  metrics.peak_memory_bytes = most[0];
  metrics.allocated_bytes = most[1];
  metrics.reserved_bytes = most[2];
  metrics.epoch = state_.cursor.epoch;
  metrics.step_seconds = seconds;
  metrics.supervised_tokens_per_s = static_cast<double>(result.supervised) / seconds;
  metrics.epochs = static_cast<double>(state_.cursor.epoch) +
                   static_cast<double>(state_.cursor.position) /
                       static_cast<double>(std::max<int64_t>(1, stream_->report().samples));
  metrics.data_seconds = result.data_seconds;
  if (peak_flops_) metrics.mfu = flops_per_token_ * metrics.tokens_per_s / *peak_flops_;
  if (recipe_.train.balance_loss > 0) metrics.balance_loss = result.step.balance_loss;
  for (size_t s = 0; s < result.supervised_by_source.size(); ++s) {
    metrics.sources.push_back({data_set_name(recipe_.data.train[s]), result.step.source_losses[s],
                               result.supervised_by_source[s]});
  }
  if (counts) metrics.experts = watch_->observe(step, *counts);
  log_->add(metrics);
  if (counts && watch_->warning()) fmt::print(stderr, "{}\n", *watch_->warning());
  if (prints_step(step)) {
    const double left = seconds_per_step_ * static_cast<double>(total_steps_ - step);
    fmt::print("{}\n", step_line(metrics, total_steps_, left, use_colour(STDOUT_FILENO)));
    std::fflush(stdout);
  }
  return end;
}

// A person at a terminal reads a line a second; who gives log.every, or reads a file, gets what it
// says.
bool Trainer::prints_step(int64_t step) {
  if (progress_is_silent()) return false;
  if (step == total_steps_) return true;
  if (step % std::max<int64_t>(1, recipe_.log.every) != 0) return false;
  const double now = now_seconds();
  const bool paced = recipe_.origins.count("log.every") == 0 && ::isatty(STDOUT_FILENO) != 0;
  if (paced && line_printed_ > 0 && now - line_printed_ < kLineSeconds) return false;
  line_printed_ = now;
  return true;
}

bool Trainer::log_evaluation(EvalMetrics metrics, const std::set<std::string>& kept) {
  const std::string best = parse_metric_name(state_.best_metric).key;
  const std::string stop = parse_metric_name(recipe_.early_stop.metric.value_or("")).key;
  std::erase_if(metrics.values, [&](const auto& value) {
    const std::vector<std::string>& wanted = recipe_.eval.metrics;
    return value.first != best && value.first != stop && kept.count(value.first) == 0 &&
           std::find(wanted.begin(), wanted.end(), value.first) == wanted.end();
  });
  if (is_root()) {
    log_->add(metrics);
    fmt::print("{}\n", eval_line(metrics));
    std::fflush(stdout);
  }
  remember_base(state_, metrics);
  early_stop_.add(metrics);
  const std::optional<double> value = better_value(state_, metrics);
  if (!value) return false;
  state_.best_value = *value;
  state_.best_step = metrics.step;
  return true;
}

void Trainer::evaluate_all(int64_t step, const std::set<std::string>& done) {
  bool is_best = false;
  const auto add = [&](EvalMetrics metrics, const std::set<std::string>& kept = {}) {
    is_best |= log_evaluation(std::move(metrics), kept);
  };
  std::vector<EvalMetrics> held_out;  // of each training set
  for (size_t i = 0; i < eval_sets_.size(); ++i) {
    const EvalSet& set = eval_sets_[i];
    if (done.count(set.name) > 0) continue;
    const double begin = now_seconds();
    EvalMetrics metrics = evaluate(session_->model(), set, step);
    std::set<std::string> scorers;
    if (needs_completions(recipe_, recipe_.data.eval[i])) {
      const auto out = paths_.evaluation() / "training" / (set.name + ".jsonl");
      for (const auto& [scorer, mean] :
           score_set(recipe_, *session_, recipe_.data.eval[i], out).means) {
        metrics.values[scorer] = mean;
        scorers.insert(scorer);
      }
    }
    metrics.epoch = state_.cursor.epoch;
    metrics.eval_seconds = now_seconds() - begin;
    if (!recipe_.data.eval[i].held_out_of.empty()) held_out.push_back(metrics);
    add(metrics, scorers);
  }
  const std::string together = held_out_together(recipe_);
  if (!together.empty() && !held_out.empty()) add(taken_together(together, held_out));
  if (!is_best) return;
  // When every set is measured: a checkpoint of this step says that its evaluations are complete.
  save(false);
  checkpointer_->mark_best(step);
}

void Trainer::evaluate_or_stop(int64_t step, const std::set<std::string>& done) {
  try {
    evaluate_all(step, done);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kStopped) throw;
    stop(agreed_stop_signal(world_), fmt::format("in the evaluation after step {}", step));
  }
}

void Trainer::stop(int signal, const std::string& in) {
  if (state_.step == 0) end_wandb(kExitStopped);
  if (state_.step == 0) leave(signal, in + ". Nothing is lost, nothing new is saved");
  save(/*last=*/true);
  checkpointer_->finish();
  end_wandb(kExitStopped);
  leave(signal,
        fmt::format("{}. step-{:08} is saved: `--resume` goes on from it, `sutor run` by the "
                    "same command",
                    in, state_.step));
}

void Trainer::save(bool last) {
  if (last_saved_ == state_.step) return;
  // A checkpoint that survives a power cut comes with all lines of its steps.
  on_rank_0(world_, "sync the logs", [&] { log_->sync(); });
  checkpointer_->save(state_, recipe_.checkpoint, last);
  last_saved_ = state_.step;
}

void Trainer::print_banner() const {
  print_train_banner(recipe_, plan_, *session_, *optimizer_, stream_->report(), total_steps_);
  if (const std::string rule = early_stop_.rule(); !rule.empty()) {
    fmt::print("stop     early: {}\n", rule);
  }
}

void Trainer::set_plan_beside_measurement(bool print) {
  const at::Device device = session_->store().device();
  PlanFigures measured{.peak_bytes = ops::memory_use(device).peak};
  if (steps_done_ > 1) {
    measured.step_seconds = measured_seconds_ / static_cast<double>(steps_done_ - 1);
  }
  const auto own = ops::items_of_peak();
  const int64_t mine = measured.peak_bytes;
  world_.all_reduce(std::span(&measured.peak_bytes, 1), ReduceOp::kMax, "measured peak");
  // Of the rank with the peak.
  std::vector<int64_t> items(own.begin(), own.end());
  if (mine != measured.peak_bytes) std::fill(items.begin(), items.end(), 0);
  world_.all_reduce(std::span(items), ReduceOp::kMax, "what the peak is made of");
  for (const FlatBuffer* buffer : session_->store().buffers()) {
    measured.parameters += buffer->chunk_size();
  }
  world_.all_reduce(std::span(&measured.parameters, 1), ReduceOp::kSum, "trained parameters");
  if (!is_root()) return;
  // The counters of items are the CPU's.
  for (size_t i = 0; i < items.size() && device.is_cpu(); ++i) {
    measured.items[ops::name_of(static_cast<ops::MemoryItem>(i))] = items[i];
  }
  try {
    write_plan_file(plan_file(paths_.output), *planned_, measured);
  } catch (const Error& error) {
    fmt::print(stderr, "note: {}\n", error.what());  // a training is not lost for it
  }
  if (!print || planned_->figures.peak_bytes == 0) return;
  fmt::print("{}\n", plan_line(*planned_, measured));
  std::fflush(stdout);
}

void Trainer::check_frozen_weights() {
  const ops::MemoryUse use = ops::memory_use(session_->store().device());  // before its own buffers
  const FrozenWeightsCheck check =
      run_frozen_weights_check(plan_, *session_, *optimizer_, frozen_before_);
  nlohmann::ordered_json ranks = rank_facts(*session_, *optimizer_);
  if (record_) {
    record_->add("check", {{"trained", check.trained},
                           {"changed", check.changed},
                           {"frozen", check.frozen},
                           {"frozen_unchanged", check.frozen_unchanged}});
    record_->add("tokens", tokens_seen_);
    record_->add("by_rank", std::move(ranks));
  }
  if (is_root()) {
    print_frozen_weights_check(check, state_, tokens_seen_, state_.step);
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
