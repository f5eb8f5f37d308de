// The log of a training run: metrics.jsonl (a line per step), eval.jsonl, TensorBoard events, and
// the lines of the console. One rank uses it; its numbers are those of the whole job.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/base/text/figures.h"
#include "launch/log/append_file.h"
#include "launch/log/expert_metrics.h"
#include "launch/log/run_paths.h"
#include "launch/log/tensorboard.h"

namespace sutor {

// What a step says of one training set of several.
struct SourceMetrics {
  std::string name;
  double loss = 0;                // nats, mean over its supervised tokens of the step
  int64_t supervised_tokens = 0;  // none: it has no loss in this step
};

struct StepMetrics {
  int64_t step = 0;      // 1 = the first
  double loss = 0;       // nats, mean over the step's supervised tokens
  double grad_norm = 0;  // before the clip
  double lr = 0;
  int64_t tokens = 0;             // of this step
  int64_t supervised_tokens = 0;  // of this step
  double tokens_per_s = 0;        // `tokens` over the step's wall time
  int64_t peak_memory_bytes = 0;  // of tensors, since start, of the rank with most
  int64_t allocated_bytes = 0, reserved_bytes = 0;  // after the step, likewise
  std::optional<double> balance_loss;               // not included in `loss`
  int64_t epoch = 0;                                // of the step's samples; 0 = the first
  double step_seconds = 0;                          // wall time
  double supervised_tokens_per_s = 0;               // `supervised_tokens` over it
  double epochs = 0;                                // that are done, with this step
  double data_seconds = 0;                          // of step_seconds: taken to get the data
  std::optional<double> mfu;                        // share of the devices' peak (model_flops.h)
  std::vector<SourceMetrics> sources;               // empty where there is one alone
  std::optional<ExpertMetrics> experts;             // of steps that are watched
};

struct EvalMetrics {
  int64_t step = 0;                      // 0 = before training
  std::string set;                       // name of the data set
  int64_t tokens = 0;                    // targets that it was measured on
  std::map<std::string, double> values;  // "loss", "ppl", "token_acc"
  int64_t epoch = 0;                     // of the step before
  double eval_seconds = 0;               // wall time
};

class MetricsLog {
 public:
  // Appends to the files of `paths`. `resume_step`: the step of the checkpoint that training
  // resumes from, 0 for a new training; first drops lines of later steps, and a line that a crash
  // left unfinished. Throws E0501 or E0502 when a file cannot be written.
  MetricsLog(const RunPaths& paths, bool tensorboard, int64_t resume_step);

  // The line is in the file when the call returns, but survives a power cut only after sync(). When
  // the disk refuses, the error is kept: a training is not lost for its log.
  void add(const StepMetrics& metrics);
  void add(const EvalMetrics& metrics);
  // From now on every line of metrics.jsonl and eval.jsonl is also told to `hear`.
  void tell(std::function<void(const nlohmann::ordered_json&)> hear) { hear_ = std::move(hear); }
  // Before a checkpoint is published: every line of its steps survives a power cut from now on.
  // Tries again what the disk refused before; an error is kept likewise.
  void sync();
  // The first error of a write: E0501 or E0502, naming the file.
  const std::optional<Error>& error() const { return error_; }

 private:
  void keep_error(const std::function<void()>& write);

  AppendFile metrics_;
  AppendFile evaluations_;
  std::unique_ptr<TensorboardWriter> tensorboard_;
  std::function<void(const nlohmann::ordered_json&)> hear_;
  std::optional<Error> error_;
};

// "step 40/372 | epoch 1.34 | loss 0.8123 | grad norm 0.62 | lr 9.8e-06 | 9,214 tok/s (3,120 in
// loss) | mfu 31.2% | data 7% | 36.8 GiB | left 9m51s"; without mfu where no peak is known, without
// data where getting it takes less than a twentieth of the step.
// Of a mix the loss is followed by that of each set: "loss 0.8123 (law 0.7110, chat 1.0201)".
// `colour` paints the loss (use_colour(fd) decides).
std::string step_line(const StepMetrics& metrics, int64_t total_steps, double seconds_left,
                      bool colour);
// "eval 100 | task: loss 0.7991, ppl 2.224".
std::string eval_line(const EvalMetrics& metrics);

// Whether to use colours on `fd`: it is a terminal, NO_COLOR is unset or empty, TERM is not dumb.
bool use_colour(int fd);

}  // namespace sutor
