// The table of recipe keys. A new key is one line here and one member in its options struct.
#include "recipes/recipe_schema.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>

#include "csrc/base/text/text.h"
#include "recipes/recipe_values.h"

namespace sutor {
namespace {

using values::boolean;
using values::is_word;
using values::kBeta;
using values::kNotNegative;
using values::kPositive;
using values::kShare;
using values::kTimes;
using values::number;
using values::number_or;
using values::number_or_percent;
using values::one_of;
using values::path;
using values::path_or_null;
using values::read_layers;
using values::read_threads;
using values::seed;
using values::share_or;
using values::share_or_null;
using values::show_value;
using values::text;
using values::text_or_null;
using values::texts;
using values::token_count;
using values::whole;
using values::whole_or_null;

// The items of a list, or of "14,13".
std::vector<YAML::Node> items_of(const YAML::Node& node) {
  std::vector<YAML::Node> items;
  if (node.IsSequence()) {
    for (const YAML::Node& item : node) items.push_back(item);
  }
  if (!node.IsScalar()) return items;
  for (const std::string& item : split_at_commas(node.Scalar())) items.emplace_back(item);
  return items;
}

// even, auto, or the number of layers of each stage.
std::string read_stages(const YAML::Node& node, std::string& value) {
  if (is_word(node, "even") || is_word(node, "auto")) return text()(node, value);
  const std::vector<YAML::Node> items = items_of(node);
  std::vector<int> counts(items.size());
  bool good = !items.empty();
  for (size_t i = 0; i < items.size(); ++i) good = good && whole(1)(items[i], counts[i]).empty();
  if (!good) return "even, auto, or the layers of each stage, such as [14, 13]";
  value = fmt::format("{}", fmt::join(counts, ","));
  return "";
}

// {text: content, images: null}
std::string read_columns(const YAML::Node& node, DataSource& source) {
  static const std::set<std::string> names = {
      "messages",       "system",  "tools",          "chat_template_kwargs",
      "instruction",    "input",   "output",         "query",
      "response",       "history", "prompt",         "completion",
      "raw_answers",    "chosen",  "rejected",       "text",
      "input_ids",      "labels",  "attention_mask", "completion_mask",
      "assistant_masks"};
  const std::string expected = fmt::format(
      "a mapping like {{text: content}}: each of {} to the column that stands for it, or any "
      "column to null, so that it is not read",
      fmt::join(names, ", "));
  if (!node.IsMap()) return expected;
  source.columns.clear();
  for (const auto& item : node) {
    if (!item.first.IsScalar()) return expected;
    std::optional<std::string>& column = source.columns[item.first.Scalar()];
    if (!text_or_null()(item.second, column).empty()) return expected;
    if (column && !names.count(item.first.Scalar())) return expected;
  }
  return "";
}

// From a recipe to one of its members.
template <typename... Members>
auto at(Members... members) {
  return [... members = members](Recipe & recipe) -> auto& { return (recipe.*....*members); };
}

template <typename At, typename Read>
Field field(std::string key, At at, Read read) {
  Field result;
  result.key = std::move(key);
  result.read = [at, read](const YAML::Node& node, Recipe& recipe) {
    return read(node, at(recipe));
  };
  result.show = [at](Recipe& recipe) { return show_value(at(recipe)); };
  return result;
}

// A text that is shown as it was written: numbers and percentages.
Field as_written(Field field) {
  field.show = [show = field.show](Recipe& recipe) {
    const std::string shown = show(recipe);
    return shown.starts_with('"') ? shown.substr(1, shown.size() - 2) : shown;
  };
  return field;
}

Field betas_field() {
  Field result;
  result.key = "optim.betas";
  result.read = [](const YAML::Node& node, Recipe& recipe) -> std::string {
    const std::string expected = "a list of two numbers of at least 0 and below 1";
    if (!node.IsSequence() || node.size() != 2) return expected;
    const bool good = number(kBeta)(node[0], recipe.optim.beta1).empty() &&
                      number(kBeta)(node[1], recipe.optim.beta2).empty();
    return good ? "" : expected;
  };
  result.show = [](Recipe& recipe) {
    return fmt::format("[{}, {}]", recipe.optim.beta1, recipe.optim.beta2);
  };
  return result;
}

Field packing_field() {
  Field result;
  result.key = "data.packing";
  result.read = [](const YAML::Node& node, Recipe& recipe) -> std::string {
    DataOptions& data = recipe.data;
    data.authors_packs = is_word(node, "authors");
    if (data.authors_packs) {
      data.packing = true;
      return "";
    }
    return boolean()(node, data.packing).empty() ? "" : "true, false or authors";
  };
  result.show = [](Recipe& recipe) {
    return recipe.data.authors_packs ? "authors" : show_value(recipe.data.packing);
  };
  return result;
}

Field pin_field() {
  Field result;
  result.key = "checkpoint.pin";
  result.read = [](const YAML::Node& node, Recipe& recipe) -> std::string {
    const std::string expected = "a list of steps";
    if (!node.IsSequence()) return expected;
    std::vector<int64_t>& steps = recipe.checkpoint.pin;
    steps.clear();
    for (const YAML::Node& item : node) {
      if (!whole(1)(item, steps.emplace_back()).empty()) return expected;
    }
    return "";
  };
  result.show = [](Recipe& recipe) {
    return fmt::format("[{}]", fmt::join(recipe.checkpoint.pin, ", "));
  };
  return result;
}

// For optionals whose absence has a name.
Field shown_absent_as(std::string word, Field field) {
  field.show = [word, show = field.show](Recipe& recipe) {
    std::string shown = show(recipe);
    return shown == "null" ? word : shown;
  };
  return field;
}

void add_model_and_data(std::vector<Field>& fields) {
  fields.push_back(field("device", at(&Recipe::device), one_of({"auto", "cpu", "cuda"})));
  fields.push_back(field("model.path", at(&Recipe::model, &ModelOptions::path), path()));
  fields.push_back(
      field("model.dtype", at(&Recipe::model, &ModelOptions::dtype), one_of({"bf16", "fp32"})));
  fields.push_back(field("model.adapters", at(&Recipe::model, &ModelOptions::adapters), texts()));
  fields.push_back(field("parallel.tp", at(&Recipe::parallel, &ParallelOptions::tp), whole(1)));
  fields.push_back(field("parallel.cp", at(&Recipe::parallel, &ParallelOptions::cp), whole(1)));
  fields.push_back(field("parallel.pp", at(&Recipe::parallel, &ParallelOptions::pp), whole(1)));
  fields.push_back(field("parallel.ep", at(&Recipe::parallel, &ParallelOptions::ep), whole(1)));
  fields.push_back(field("parallel.etp", at(&Recipe::parallel, &ParallelOptions::etp), whole(1)));
  fields.push_back(field("parallel.order", at(&Recipe::parallel, &ParallelOptions::order), text()));
  fields.push_back(
      field("parallel.stages", at(&Recipe::parallel, &ParallelOptions::stages), read_stages));
  fields.push_back(as_written(field("parallel.sequence_parallel",
                                    at(&Recipe::parallel, &ParallelOptions::sequence_parallel),
                                    one_of({"auto", "true", "false"}))));
  fields.push_back(field("parallel.expert_placement",
                         at(&Recipe::parallel, &ParallelOptions::expert_placement),
                         one_of({"contiguous", "balanced"})));
  fields.push_back(field("parallel.frozen_replicas",
                         at(&Recipe::parallel, &ParallelOptions::frozen_replicas), whole(0)));
  fields.push_back(field("parallel.dispatcher", at(&Recipe::parallel, &ParallelOptions::dispatcher),
                         one_of({"alltoall", "allgather"})));
  fields.push_back(field("data.tokenizer", at(&Recipe::data, &DataOptions::tokenizer), path()));
  fields.push_back(field("data.template", at(&Recipe::data, &DataOptions::chat_template), path()));
  fields.push_back(field("data.loss_on", at(&Recipe::data, &DataOptions::loss_on),
                         one_of({"assistant", "last", "completion", "all"})));
  fields.push_back(
      field("data.loss_on_thinking", at(&Recipe::data, &DataOptions::loss_on_thinking), boolean()));
  fields.push_back(
      field("data.seq_len", at(&Recipe::data, &DataOptions::seq_len), token_count(false)));
  fields.push_back(packing_field());
  fields.push_back(field("data.too_long", at(&Recipe::data, &DataOptions::too_long),
                         one_of({"drop", "truncate", "split"})));
  fields.push_back(field("data.truncation_side", at(&Recipe::data, &DataOptions::truncation_side),
                         one_of({"right", "left"})));
  fields.push_back(field("data.workers", at(&Recipe::data, &DataOptions::workers), whole(0)));
}

void add_esft(std::vector<Field>& fields) {
  fields.push_back(field("esft.score.tokens",
                         at(&Recipe::esft, &EsftOptions::score, &ScoreOptions::tokens),
                         token_count(true)));
  fields.push_back(field("esft.score.count",
                         at(&Recipe::esft, &EsftOptions::score, &ScoreOptions::count),
                         one_of({"all", "supervised"})));
  fields.push_back(field("esft.score.seed",
                         at(&Recipe::esft, &EsftOptions::score, &ScoreOptions::seed), seed()));
  fields.push_back(field("esft.select.method",
                         at(&Recipe::esft, &EsftOptions::select, &SelectOptions::method),
                         one_of({"token", "gate", "random", "top_n", "budget", "none"})));
  fields.push_back(shown_absent_as(
      "auto",
      field("esft.select.top_p", at(&Recipe::esft, &EsftOptions::select, &SelectOptions::top_p),
            share_or("auto"))));
  fields.push_back(field("esft.select.n",
                         at(&Recipe::esft, &EsftOptions::select, &SelectOptions::n),
                         whole_or_null(1)));
  fields.push_back(field("esft.select.rank_by",
                         at(&Recipe::esft, &EsftOptions::select, &SelectOptions::rank_by),
                         one_of({"token", "gate"})));
  fields.push_back(field("esft.select.budget",
                         at(&Recipe::esft, &EsftOptions::select, &SelectOptions::budget),
                         share_or("null")));
  fields.push_back(field("esft.select.seed",
                         at(&Recipe::esft, &EsftOptions::select, &SelectOptions::seed), seed()));
  fields.push_back(shown_absent_as(
      "all", field("esft.select.layers",
                   at(&Recipe::esft, &EsftOptions::select, &SelectOptions::layers), read_layers)));
  fields.push_back(field("esft.select.min_per_layer",
                         at(&Recipe::esft, &EsftOptions::select, &SelectOptions::min_per_layer),
                         whole(0)));
  fields.push_back(field("esft.select.shared_experts",
                         at(&Recipe::esft, &EsftOptions::select, &SelectOptions::shared_experts),
                         boolean()));
  fields.push_back(field(
      "esft.select.non_expert_modules",
      at(&Recipe::esft, &EsftOptions::select, &SelectOptions::non_expert_modules), boolean()));
  fields.push_back(field("esft.config", at(&Recipe::esft, &EsftOptions::config), path_or_null()));
  fields.push_back(
      field("esft.layer_base", at(&Recipe::esft, &EsftOptions::layer_base), whole(0, 1)));
  fields.push_back(field("esft.also_train", at(&Recipe::esft, &EsftOptions::also_train), texts()));
  fields.push_back(
      field("esft.keep_frozen", at(&Recipe::esft, &EsftOptions::keep_frozen), texts()));
}

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const OptimizerName& optimizer : kOptimizerNames) names.emplace_back(optimizer.name);
  return names;
}

void add_training(std::vector<Field>& fields) {
  fields.push_back(field("lora.rank", at(&Recipe::lora, &LoraOptions::rank), whole(1)));
  fields.push_back(field("lora.alpha", at(&Recipe::lora, &LoraOptions::alpha), number(kPositive)));
  fields.push_back(field("lora.targets", at(&Recipe::lora, &LoraOptions::targets),
                         texts({"attention", "linears", "experts"})));
  fields.push_back(field("lora.init", at(&Recipe::lora, &LoraOptions::init), path_or_null()));
  fields.push_back(
      field("optim.name", at(&Recipe::optim, &OptimOptions::name), one_of(optimizer_names())));
  fields.push_back(field("optim.lr", at(&Recipe::optim, &OptimOptions::lr), number(kPositive)));
  fields.push_back(betas_field());
  fields.push_back(field("optim.eps", at(&Recipe::optim, &OptimOptions::eps), number(kPositive)));
  fields.push_back(field("optim.weight_decay", at(&Recipe::optim, &OptimOptions::weight_decay),
                         number(kNotNegative)));
  fields.push_back(
      field("optim.decay", at(&Recipe::optim, &OptimOptions::decay), one_of({"all", "matrices"})));
  fields.push_back(
      field("optim.clip", at(&Recipe::optim, &OptimOptions::clip), number(kNotNegative)));
  fields.push_back(field("schedule.name", at(&Recipe::schedule, &ScheduleOptions::name),
                         one_of({"constant", "linear", "cosine"})));
  fields.push_back(
      as_written(field("schedule.warmup", at(&Recipe::schedule, &ScheduleOptions::warmup),
                       number_or_percent(true))));
  fields.push_back(
      as_written(field("schedule.min_lr", at(&Recipe::schedule, &ScheduleOptions::min_lr),
                       number_or_percent(false))));
  fields.push_back(
      field("schedule.steps", at(&Recipe::schedule, &ScheduleOptions::steps), whole_or_null(1)));
  fields.push_back(
      field("schedule.epochs", at(&Recipe::schedule, &ScheduleOptions::epochs), number(kPositive)));
  fields.push_back(field("train.method", at(&Recipe::train, &TrainOptions::method),
                         one_of({"esft", "full", "lora"})));
  fields.push_back(
      field("train.global_batch", at(&Recipe::train, &TrainOptions::global_batch), whole(1)));
  fields.push_back(
      field("train.micro_batch", at(&Recipe::train, &TrainOptions::micro_batch), whole(1)));
  fields.push_back(field("train.balance_loss", at(&Recipe::train, &TrainOptions::balance_loss),
                         number(kNotNegative)));
  fields.push_back(field("train.balance_over", at(&Recipe::train, &TrainOptions::balance_over),
                         one_of({"auto", "sequences", "batch"})));
  fields.push_back(field("train.seed", at(&Recipe::train, &TrainOptions::seed), seed()));
  fields.push_back(
      as_written(field("train.threads", at(&Recipe::train, &TrainOptions::threads), read_threads)));
  fields.push_back(field("train.recompute", at(&Recipe::train, &TrainOptions::recompute),
                         one_of({"none", "attention", "layer"})));
  const auto early = [](auto member) { return at(&Recipe::early_stop, member); };
  fields.push_back(
      field("train.early_stop.metric", early(&EarlyStopOptions::metric), text_or_null()));
  fields.push_back(
      field("train.early_stop.patience", early(&EarlyStopOptions::patience), whole(1)));
  fields.push_back(field("train.early_stop.min_delta", early(&EarlyStopOptions::min_delta),
                         number(kNotNegative)));
}

void add_outputs(std::vector<Field>& fields) {
  fields.push_back(
      field("checkpoint.every", at(&Recipe::checkpoint, &CheckpointOptions::every), whole(0)));
  fields.push_back(
      field("checkpoint.keep", at(&Recipe::checkpoint, &CheckpointOptions::keep), whole(1)));
  fields.push_back(
      field("checkpoint.async", at(&Recipe::checkpoint, &CheckpointOptions::async), boolean()));
  fields.push_back(pin_field());
  fields.push_back(field("log.every", at(&Recipe::log, &LogOptions::every), whole(1)));
  fields.push_back(field("log.tensorboard", at(&Recipe::log, &LogOptions::tensorboard), boolean()));
  fields.push_back(field("log.experts", at(&Recipe::log, &LogOptions::experts),
                         one_of({"brief", "detailed", "none"})));
  const auto wandb = [](auto member) { return at(&Recipe::log, &LogOptions::wandb, member); };
  fields.push_back(field("log.wandb.project", wandb(&WandbOptions::project), text_or_null()));
  fields.push_back(field("log.wandb.entity", wandb(&WandbOptions::entity), text_or_null()));
  fields.push_back(field("log.wandb.name", wandb(&WandbOptions::name), text_or_null()));
  fields.push_back(
      field("log.wandb.mode", wandb(&WandbOptions::mode), one_of({"online", "offline"})));
  fields.push_back(field("log.wandb.tags", wandb(&WandbOptions::tags), texts()));
  fields.push_back(field("eval.every", at(&Recipe::eval, &EvalOptions::every), whole(0)));
  fields.push_back(field("eval.metrics", at(&Recipe::eval, &EvalOptions::metrics),
                         texts({"loss", "ppl", "token_acc", "exact_match"})));
  fields.push_back(field("eval.best", at(&Recipe::eval, &EvalOptions::best), text_or_null()));
  fields.push_back(field("eval.judge", at(&Recipe::eval, &EvalOptions::judge), text_or_null()));
  fields.push_back(
      field("eval.before_training", at(&Recipe::eval, &EvalOptions::before_training), boolean()));
  fields.push_back(field("generate.max_new_tokens",
                         at(&Recipe::generate, &GenerateOptions::max_new_tokens), whole(1)));
  fields.push_back(field("generate.temperature",
                         at(&Recipe::generate, &GenerateOptions::temperature),
                         number(kNotNegative)));
  fields.push_back(
      field("generate.top_p", at(&Recipe::generate, &GenerateOptions::top_p), number(kShare)));
  fields.push_back(field("generate.seed", at(&Recipe::generate, &GenerateOptions::seed), seed()));
  fields.push_back(
      field("generate.batch", at(&Recipe::generate, &GenerateOptions::batch), whole(1)));
  fields.push_back(field("export.format", at(&Recipe::export_, &ExportOptions::format),
                         texts({"adapter", "merged", "peft"})));
  fields.push_back(field("export.quantized", at(&Recipe::export_, &ExportOptions::quantized),
                         one_of({"dequantize", "requantize"})));
  fields.push_back(field("output", at(&Recipe::output), path()));
}

}  // namespace

const std::vector<Field>& recipe_fields() {
  static const std::vector<Field> fields = [] {
    std::vector<Field> all;
    add_model_and_data(all);
    add_esft(all);
    add_training(all);
    add_outputs(all);
    return all;
  }();
  return fields;
}

const Field* find_field(std::string_view key) {
  for (const Field& field : recipe_fields()) {
    if (field.key == key) return &field;
  }
  return nullptr;
}

const std::vector<std::string>& source_keys(std::string_view list) {
  static const std::vector<std::string> train = {"path",    "format", "name",  "scorer",
                                                 "columns", "weight", "epochs"};
  static const std::vector<std::string> eval = {"path",   "format",  "name",
                                                "scorer", "columns", "share"};
  return list == "data.train" ? train : eval;
}

std::string read_source_key(std::string_view key, const YAML::Node& node, DataSource& source) {
  if (key == "path") return path()(node, source.path);
  if (key == "name") return text()(node, source.name);
  if (key == "scorer") return text_or_null()(node, source.scorer);
  if (key == "columns") return read_columns(node, source);
  if (key == "weight") return number_or("null", kTimes)(node, source.weight);
  if (key == "epochs") return number_or("null", kTimes)(node, source.epochs);
  if (key == "share") return share_or_null(node, source.share);
  return one_of({"auto", "messages", "sharegpt", "alpaca", "preference", "completion", "text",
                 "tokens", "store"})(node, source.format);
}

std::optional<SourceKey> parse_source_key(std::string_view name) {
  const size_t open = name.find('['), close = name.find(']');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return {};
  SourceKey found{.list = std::string(name.substr(0, open))};
  const std::string_view digits = name.substr(open + 1, close - open - 1);
  std::string_view rest = name.substr(close + 1);
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), found.index);
  if (!is_source_list(found.list) || digits.size() > 4 || error != std::errc() ||
      end != digits.data() + digits.size()) {
    return {};
  }
  if (rest.empty()) return found;
  const auto is_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  found.key = rest.substr(1);
  if (rest[0] != '.' || found.key.empty() ||
      !std::all_of(found.key.begin(), found.key.end(), is_word)) {
    return {};
  }
  return found;
}

bool is_source_list(std::string_view key) { return key == "data.train" || key == "data.eval"; }

bool is_section(std::string_view key) { return !keys_under(key).empty() && !is_source_list(key); }

std::vector<std::string> keys_under(std::string_view section) {
  const std::string prefix = section.empty() ? "" : std::string(section) + ".";
  std::vector<std::string> keys;
  if (section == "data") keys = {"train", "eval"};
  if (is_source_list(section)) return source_keys(section);
  for (const Field& field : recipe_fields()) {
    if (!field.key.starts_with(prefix)) continue;
    const std::string rest = field.key.substr(prefix.size());
    const std::string name = rest.substr(0, rest.find('.'));
    if (std::find(keys.begin(), keys.end(), name) == keys.end()) keys.push_back(name);
  }
  return keys;
}

}  // namespace sutor
