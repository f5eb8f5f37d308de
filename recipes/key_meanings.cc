// The table of meanings. A new key of recipe_schema.cc is one line here; a test asks for it.
#include "recipes/key_meanings.h"

#include <algorithm>

#include "csrc/base/error.h"
#include "recipes/recipe_schema.h"

namespace sutor {
namespace {

// clang-format off
constexpr KeyMeaning kMeanings[] = {
    {"device", "", "what computes; auto: a GPU for each rank where there are, else the CPU"},
    {"model.path", "", "Hugging Face directory (config.json, safetensors) or base store; relative to where sutor is started"},
    {"model.dtype", "", "of frozen weights and of computing; trained weights have fp32 masters (but with adamw_bf16)"},
    {"model.adapters", "", "exported adapters that are part of the base before training begins"},
    {"parallel.tp", "ranks", "tensor parallelism: shards of heads, widths of dense MLPs, vocabulary"},
    {"parallel.cp", "ranks", "context parallelism: shards of the tokens of each document"},
    {"parallel.pp", "ranks", "pipeline stages of layers"},
    {"parallel.ep", "ranks", "expert parallelism: ranks over which the experts of a layer are spread; must divide them"},
    {"parallel.etp", "ranks", "shards of the matrices of each routed expert"},
    {"parallel.order", "", "axis that varies fastest over ranks first; put those with the most traffic first"},
    {"parallel.stages", "layers", "layers of each pipeline stage; auto: by their costs"},
    {"parallel.sequence_parallel", "", "whether tokens are sharded over tp between its regions; auto: where tp > 1"},
    {"parallel.expert_placement", "", "contiguous as in Megatron, or balanced by the run's scores and what trains"},
    {"parallel.frozen_replicas", "experts", "most used frozen experts of a layer that every rank of ep has"},
    {"parallel.dispatcher", "", "alltoall sends rows to the ranks of their experts, allgather all rows to all"},
    {"data.train[].path", "", "file, glob or folder of rows (JSON lines, JSON, CSV, Parquet; .gz, .zst); required"},
    {"data.train[].format", "", "form of the rows; auto detects and says it; store: a finished token store"},
    {"data.train[].name", "", "of the set in logs and files; without it that of the file"},
    {"data.train[].scorer", "", "how completions of its rows are scored"},
    {"data.train[].columns", "", "which columns stand for the keys of the form; to null: not read"},
    {"data.train[].weight", "", "share of an epoch among the sets with weights; not beside epochs"},
    {"data.train[].epochs", "times", "how often an epoch takes each document of the set; not beside weight"},
    {"data.eval[].path", "", "as of data.train; rows that are never trained on"},
    {"data.eval[].format", "", "as of data.train"},
    {"data.eval[].name", "", "of the set in logs and eval.jsonl; eval.best names one"},
    {"data.eval[].scorer", "", "how `eval --completions` scores answers, for example exact or intent,exact"},
    {"data.eval[].columns", "", "as of data.train"},
    {"data.eval[].share", "of rows", "instead of path: this share of every training set is held out, by the hash of the row"},
    {"data.tokenizer", "", "tokenizer.json, or the folder that has it; auto: the model's"},
    {"data.template", "", "chat template: auto (the model's), none, a jinja file, or the name of one of the model's"},
    {"data.loss_on", "", "which tokens are trained: answers (assistant), the last answer, completions, or all"},
    {"data.loss_on_thinking", "", "whether the text of thinking is trained, too"},
    {"data.seq_len", "tokens", "length of a pack, and the longest document; memory of activations grows with it"},
    {"data.packing", "", "documents share packs, isolated from each other; authors: as the ESFT authors pack"},
    {"data.too_long", "", "what becomes of documents longer than seq_len"},
    {"data.truncation_side", "", "end at which truncate cuts, and split leaves the short piece"},
    {"data.workers", "processes", "of prepare; 0: one a processor, up to 16"},
    {"esft.score.tokens", "tokens", "of training data that are routed to count experts; -1: all"},
    {"esft.score.count", "", "which positions count: all, or only those in the loss"},
    {"esft.score.seed", "", "draws the documents that are scored"},
    {"esft.select.method", "", "how experts are chosen: by token or gate score up to top_p, at random, top_n a layer, a budget, none"},
    {"esft.select.top_p", "share", "of a layer's routing that the chosen experts cover; auto: 0.2 for token, 0.1 for gate"},
    {"esft.select.n", "experts", "a layer, for top_n and random"},
    {"esft.select.rank_by", "", "score that ranks experts for top_n and budget"},
    {"esft.select.budget", "share", "of all routed experts of the model, for budget"},
    {"esft.select.seed", "", "draws the experts of method random"},
    {"esft.select.layers", "", "layers in which experts train"},
    {"esft.select.min_per_layer", "experts", "fewest that are chosen in each of these layers"},
    {"esft.select.shared_experts", "", "whether shared experts train, too"},
    {"esft.select.non_expert_modules", "", "whether attention, norms, embedding and head train, too"},
    {"esft.config", "", "a ready expert config (JSON); score and select are skipped"},
    {"esft.layer_base", "", "1 where the layer keys of esft.config count from 1"},
    {"esft.also_train", "", "patterns of names that train beside the experts; each must match something"},
    {"esft.keep_frozen", "", "patterns of names that never train"},
    {"lora.rank", "", "of the pairs of train.method lora"},
    {"lora.alpha", "", "the product of a pair is scaled by alpha / rank"},
    {"lora.targets", "", "what gets pairs: attention, linears (also dense MLPs and shared experts), experts"},
    {"lora.init", "", "a peft adapter to start from"},
    {"optim.name", "", "adamw (fp32 masters and moments), or adamw_bf16 (6 bytes a parameter; needs dtype bf16)"},
    {"optim.lr", "", "highest learning rate; chosen experts take more than a full training, pairs more still"},
    {"optim.betas", "", "decays of the two moments"},
    {"optim.eps", "", "added to the root of the second moment"},
    {"optim.weight_decay", "a step and lr", "decoupled decay of trained weights"},
    {"optim.decay", "", "what decays: all trained tensors, or matrices alone"},
    {"optim.clip", "norm", "of the gradient of all trained parameters together; 0: no clipping"},
    {"schedule.name", "", "course of the rate behind the warm-up, down to min_lr"},
    {"schedule.warmup", "steps or %", "over which the rate rises to optim.lr"},
    {"schedule.min_lr", "rate or %", "lowest rate of linear and cosine"},
    {"schedule.steps", "steps", "length of the training; null: schedule.epochs decides"},
    {"schedule.epochs", "epochs", "length of the training where schedule.steps is null"},
    {"train.method", "", "esft: chosen experts; full: everything; lora: low-rank pairs"},
    {"train.global_batch", "packs", "of a step, over all ranks (documents without packing); never more than the data have"},
    {"train.micro_batch", "packs", "that a rank computes at a time: memory, not numbers"},
    {"train.balance_loss", "", "weight of the load-balance loss; 0: none, whatever config.json says"},
    {"train.balance_over", "", "what that loss is a mean of; auto: as seq_aux of config.json says"},
    {"train.seed", "", "of the order of samples, and of rounding and pairs"},
    {"train.threads", "threads", "of a rank; auto: its share of the cores that it may use"},
    {"train.recompute", "", "what the backward pass computes again instead of keeping it: less memory, more time"},
    {"train.early_stop.metric", "", "what must get better for the training to go on, named as eval.best; null: off"},
    {"train.early_stop.patience", "evaluations", "in a row without a better value, after which the training ends"},
    {"train.early_stop.min_delta", "", "by how much a value must be better to count"},
    {"checkpoint.every", "steps", "between two checkpoints; 0: only at the end"},
    {"checkpoint.keep", "checkpoints", "newest ones that stay; the best stays beside them"},
    {"checkpoint.async", "", "whether they are written beside the steps that follow"},
    {"checkpoint.pin", "steps", "whose checkpoints are never deleted"},
    {"log.every", "steps", "between two lines on the console; metrics.jsonl has all"},
    {"log.tensorboard", "", "whether tensorboard/ is written"},
    {"log.experts", "", "what logs say of the routed experts: totals and the worst layer (brief), every layer (detailed), none"},
    {"log.wandb.project", "", "project of Weights & Biases; null: nothing is logged there"},
    {"log.wandb.entity", "", "team or user; null: that of the account"},
    {"log.wandb.name", "", "of the run; null: the service makes one up"},
    {"log.wandb.mode", "", "online, or files in the output folder alone"},
    {"log.wandb.tags", "", "of the run"},
    {"eval.every", "steps", "between two evaluations; 0: only at the end"},
    {"eval.metrics", "", "of each evaluation set"},
    {"eval.best", "", "what chooses the best checkpoint, as task.loss; null: the loss of the first set"},
    {"eval.judge", "", "command line of the scorer judge"},
    {"eval.before_training", "", "whether the base is evaluated first, so that the training is compared with it"},
    {"generate.max_new_tokens", "tokens", "of an answer"},
    {"generate.temperature", "", "0: always the likeliest token"},
    {"generate.top_p", "share", "sample from the likeliest tokens that have this probability together"},
    {"generate.seed", "", "of sampling"},
    {"generate.batch", "sequences", "at a time on a rank"},
    {"export.format", "", "adapter: what trained alone; merged: a whole model directory; peft: low-rank pairs"},
    {"export.quantized", "", "trained matrices of a quantised base in a merged export: bf16, or quantised again"},
    {"output", "", "folder of the run: tokens, scores, checkpoints, exports, logs; relative to where sutor is started"},
};
// clang-format on

// What no key accepts, so that its reader says what it expects.
YAML::Node nothing_good() {
  YAML::Node node, inner;
  inner["?"]["?"] = "?";
  node["?"] = inner;
  return node;
}

template <typename Read>
std::string type_of(Read read) {
  std::string type = read(nothing_good());
  const bool takes_null = read(YAML::Node(YAML::NodeType::Null)).empty();
  if (takes_null && type.find("null") == std::string::npos) type += ", or null";
  return type;
}

// "data.train[].path" -> data.train, path
bool split_source_key(std::string_view key, std::string& list, std::string& name) {
  const size_t at = key.find("[].");
  if (at == std::string_view::npos) return false;
  list = key.substr(0, at);
  name = key.substr(at + 3);
  return true;
}

std::string source_default(std::string_view name) {
  if (name == "path") return "required";
  if (name == "name") return "that of the file";
  if (name == "format") return "auto";
  return name == "columns" ? "{}" : "null";
}

KeyReference reference_of(const KeyMeaning& meaning) {
  KeyReference entry{std::string(meaning.key), "", "", std::string(meaning.unit),
                     std::string(meaning.meaning)};
  std::string list, name;
  Recipe scratch;
  if (split_source_key(meaning.key, list, name)) {
    entry.type = type_of([&](const YAML::Node& node) {
      DataSource source;
      return read_source_key(name, node, source);
    });
    entry.value =
        list == "data.eval" && name == "path" ? "required without share" : source_default(name);
    return entry;
  }
  const Field* field = find_field(meaning.key);
  SUTOR_ASSERT(field != nullptr);
  entry.type = type_of([&](const YAML::Node& node) { return field->read(node, scratch); });
  Recipe defaults;
  entry.value = field->show(defaults);
  if (entry.value == "\"\"") entry.value = "required";
  return entry;
}

}  // namespace

std::span<const KeyMeaning> key_meanings() { return kMeanings; }

const KeyMeaning* find_meaning(std::string_view key) {
  const auto* found = std::find_if(std::begin(kMeanings), std::end(kMeanings),
                                   [&](const KeyMeaning& meaning) { return meaning.key == key; });
  return found == std::end(kMeanings) ? nullptr : found;
}

std::vector<KeyReference> key_reference() {
  std::vector<KeyReference> all;
  for (const KeyMeaning& meaning : kMeanings) all.push_back(reference_of(meaning));
  return all;
}

}  // namespace sutor
