// A recipe: everything that a run needs, composed of the options that the folders below declare.
// recipe_reader.h reads it from YAML; only launch/ includes this.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/partial/checkpoint_options.h"
#include "layers/esft/esft_options.h"
#include "layers/lora/lora_options.h"
#include "layers/optim/optim_options.h"
#include "parallel_state/layout/parallel_options.h"

namespace sutor {

struct ModelOptions {
  std::string path;
  std::string dtype = "bf16";  // of frozen weights and of computing: fp32 | bf16
  std::vector<std::string> adapters;
};

// Names of row keys -> columns of the rows that stand for them; nothing: is not read.
using RowColumns = std::map<std::string, std::optional<std::string>>;

struct DataSource {
  std::string path;  // a file, a glob or a folder
  // auto | messages | sharegpt | alpaca | preference | completion | text | tokens: rows; store: a
  // finished token store, used where it is
  std::string format = "auto";
  std::string name;  // default: default_set_name(); the token store is named after it
  RowColumns columns;
  // Eval sets: how completions are scored ("intent,exact").
  std::optional<std::string> scorer;
  // Training sets: how much of them an epoch holds; at most one of the two (source_mix.h).
  std::optional<double> weight;
  std::optional<double> epochs;
  // The share of the rows, by the hash of their content, that is held out of a training set. Of an
  // evaluation set: the rows of the training set `held_out_of` that are.
  std::optional<double> share;
  std::string held_out_of;
};

struct DataOptions {
  std::vector<DataSource> train;
  std::vector<DataSource> eval;
  std::string tokenizer = "auto";  // auto = the model's tokenizer.json
  // Key `template`: auto = the model's own | the name of one of several | file | none
  std::string chat_template = "auto";
  std::string loss_on = "assistant";  // assistant | last | completion | all
  bool loss_on_thinking = true;       // false: what a turn thinks is left out of the loss
  int64_t seq_len = 4096;
  bool packing = true;
  bool authors_packs = false;     // key `packing: authors`: as authors_packs.h says
  std::string too_long = "drop";  // drop | truncate | split
  // The side on which truncate removes tokens, and on which split leaves the short piece.
  std::string truncation_side = "right";
  int64_t workers = 0;  // processes of `prepare`; 0 = one a processor, up to 16
};

struct ScheduleOptions {
  std::string name = "constant";  // constant | linear | cosine
  std::string warmup = "0";       // steps, or "3%"
  std::string min_lr = "0";       // absolute, or "10%"
  std::optional<int64_t> steps;
  double epochs = 1;
};

// Ends a training early when an evaluation does not get better any more; off without a metric.
struct EarlyStopOptions {
  std::optional<std::string> metric;  // "task.loss"
  int64_t patience = 3;               // evaluations in a row without an improvement
  double min_delta = 0;               // what is less better than this is no improvement
};

struct TrainOptions {
  std::string method = "esft";  // esft | full | lora
  int64_t global_batch = 32;    // packs when packing, else documents
  int64_t micro_batch = 2;
  double balance_loss = 0;
  std::string balance_over = "auto";  // auto = what the model's config says | sequences | batch
  uint64_t seed = 42;
  std::string threads = "auto";
  // What the backward pass computes again instead of keeping it: none | attention | layer.
  std::string recompute = "none";
};

// A copy of the log in a project of Weights & Biases; off without a project.
struct WandbOptions {
  std::optional<std::string> project;
  std::optional<std::string> entity;  // team or user; default: that of the account
  std::optional<std::string> name;    // of the run; default: one that the service makes up
  std::string mode = "online";        // or offline: files alone, which `wandb sync` sends later
  std::vector<std::string> tags;
};

struct LogOptions {
  int64_t every = 1;
  bool tensorboard = true;
  std::string experts = "brief";  // of the routed experts: brief, detailed (each layer) or none
  WandbOptions wandb;
};

struct EvalOptions {
  int64_t every = 100;  // steps; 0 = only at the end
  std::vector<std::string> metrics = {"loss", "ppl", "token_acc"};
  std::optional<std::string> best;   // "<set>.<metric>"; default: the first eval set's loss
  std::optional<std::string> judge;  // command line of the scorer judge
  bool before_training = true;
};

struct GenerateOptions {
  int64_t max_new_tokens = 256;
  double temperature = 0;  // 0 = greedy
  double top_p = 1;        // sample from the likeliest tokens that have this probability together
  uint64_t seed = 0;
  int64_t batch = 16;  // sequences at a time on a rank
};

struct Recipe {
  std::string device = "auto";  // auto | cpu | cuda
  ModelOptions model;
  ParallelOptions parallel;
  DataOptions data;
  EsftOptions esft;
  LoraOptions lora;
  OptimOptions optim;
  ScheduleOptions schedule;
  TrainOptions train;
  CheckpointOptions checkpoint;
  LogOptions log;
  EvalOptions eval;
  GenerateOptions generate;
  ExportOptions export_;
  std::string output;

  std::string file;  // the YAML file that it was read from
  // Where the value of a key was written ("my.yaml:14:3", "--set"); without keys at their default.
  std::map<std::string, std::string> origins;

  EarlyStopOptions early_stop;  // the section train.early_stop
};

}  // namespace sutor
