// The training loop: ESFT or full, on one process or many.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launch/checkpoints/early_stop.h"
#include "launch/data/sample_order.h"
#include "launch/data/token_stores.h"
#include "launch/eval/evaluate.h"
#include "launch/log/metrics_log.h"
#include "launch/log/plan_file.h"
#include "launch/log/run_paths.h"
#include "launch/log/run_record.h"
#include "launch/model/session.h"
#include "launch/python/wandb_run.h"
#include "launch/train/checkpointer.h"
#include "launch/train/lr_schedule.h"
#include "launch/train/train_plan.h"
#include "launch/train/train_step.h"
#include "launch/train/watch/expert_watch.h"
#include "launch/train/watch/routing_counter.h"
#include "recipes/recipe.h"

namespace sutor {

struct ResumeMode {
  bool resume = false;
  bool strict = false;
  bool overwrite = false;
  // Called on rank 0 whenever a checkpoint has been published.
  std::function<void()> published = {};
  // Null, or the checkpoint that a new training begins from (fork_to_begin()).
  nlohmann::json fork = nullptr;
  bool check = false;  // only whether it can start: nothing is loaded, written or deleted
};

class Trainer {
 public:
  // Collective over `world`: opens the data and plans. No weight is read and nothing is written
  // yet. What is passed by reference must outlive the trainer, but for options and provenance.
  // session: what session_options() made of the recipe.
  Trainer(const Recipe& recipe, const ModelSource& source, Comm& world,
          const SessionOptions& session, const nlohmann::json& provenance);
  const TrainPlan& plan() const { return plan_; }
  const SessionOptions& session_options() const { return options_; }
  int64_t last_step() const { return total_steps_; }
  const TrainState& state() const { return state_; }
  // Reads the model; once, before run(). Collective.
  void load();
  // What was planned of this training, to be set beside what is measured: in plan.json, and in a
  // line after the first steps. Before run(); on all ranks or on none, but only rank 0's counts.
  void compare_with(PlannedRun planned) { planned_ = std::move(planned); }
  // Trains to the end. Prints on rank 0. Collective.
  void run(const ResumeMode& mode);

 private:
  struct BatchResult {
    StepResult step;
    int64_t tokens = 0, supervised = 0;
    double data_seconds = 0;  // to get the data
    std::vector<int64_t> supervised_by_source;
  };

  void open_data();
  void run_steps(const ResumeMode& mode);
  // The same; the record says how it ended.
  void run_recorded(const ResumeMode& mode);
  void train_to_end();
  void start(const ResumeMode& mode);
  void print_banner() const;
  BatchResult train_batch(int64_t step, double lr);
  bool prints_step(int64_t step);
  void restore_best();
  void restore_early_stop();
  // A new training: takes what its parent has, when it is a fork.
  void begin(const ResumeMode& mode);
  bool evaluation_due(int64_t step) const;
  void evaluate_missing();
  struct StepEnd {
    int64_t saves_progress = 0;  // the largest of all ranks
    int signal = 0;              // that asks any rank to stop; 0: none
    bool log_failed = false;     // the logs could not be written before this step
  };
  // Collective.
  StepEnd log_step(const BatchResult& result, int64_t step, double lr, double seconds);
  // Returns whether it makes its step the best. kept: values that are logged beside eval.metrics.
  bool log_evaluation(EvalMetrics metrics, const std::set<std::string>& kept);
  // Measures every set but those in `done`, and saves when one makes this step the best.
  void evaluate_all(int64_t step, const std::set<std::string>& done = {});
  // The same, but saves before it leaves for a signal.
  void evaluate_or_stop(int64_t step, const std::set<std::string>& done = {});
  // Saves unless the step is saved, and throws E7500. `in`: what it was doing.
  [[noreturn]] void stop(int signal, const std::string& in);
  void save(bool last);
  void check_frozen_weights();
  bool watches(int64_t step) const;
  void end_wandb(int exit_code);
  // Collective.
  void set_plan_beside_measurement(bool print);
  bool is_root() const { return world_.rank() == 0; }

  const Recipe& recipe_;
  Comm& world_;
  RunPaths paths_;
  const ModelSource& source_;
  TrainPlan plan_;
  SessionOptions options_;
  nlohmann::json provenance_;
  TokenStores stores_;
  Digest base_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<SampleStream> stream_;
  std::vector<EvalSet> eval_sets_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<MetricsLog> log_;
  std::unique_ptr<RoutingCounter> routing_;
  std::unique_ptr<ExpertWatch> watch_;  // of rank 0
  std::unique_ptr<WandbRun> wandb_;     // of rank 0, where the recipe asks for one
  std::unique_ptr<RunRecord> record_;   // of rank 0
  std::unique_ptr<LrSchedule> schedule_;
  TrainState state_;
  EarlyStop early_stop_;
  int64_t total_steps_ = 0;
  int64_t tokens_seen_ = 0, last_saved_ = -1;
  double seconds_per_step_ = 0;  // smoothed
  double line_printed_ = 0;      // when the last line of a step was printed
  double flops_per_token_ = 0;
  std::optional<double> peak_flops_;  // of all ranks together
  std::optional<PlannedRun> planned_;
  int64_t steps_done_ = 0;       // in this start
  double measured_seconds_ = 0;  // of them but the first
  Digest frozen_before_;
  int64_t resident_bytes_ = 0;  // weights and training state of this rank
};

}  // namespace sutor
