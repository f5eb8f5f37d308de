// sutor init: a commented recipe for a model and rows.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/store/open_model.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/process/host.h"
#include "csrc/base/text/json.h"
#include "csrc/ops/device/gpu.h"
#include "launch/cli/command_line.h"
#include "launch/job/failure.h"
#include "launch/log/metrics_log.h"
#include "launch/model/model_config.h"
#include "launch/start/recipe_text.h"
#include "launch/start/row_facts.h"
#include "recipes/recipe_values.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "init",
    "Writes a commented recipe for a model and rows. Counts and tokenises the rows, and chooses "
    "length, batch, steps and learning rate that make sense for them; holds rows out where no "
    "--eval is given. Every key stands there with default, unit and meaning. Replaces no file; "
    "without --out it prints the recipe.",
    "sutor init MODEL_DIR --data ROWS... [--eval ROWS...] [--method esft|full|lora] "
    "[--out my.yaml] [--output DIR] [--ranks N] [--loss-on WHAT]",
    "sutor init models/DeepSeek-V2-Lite-Chat --data train.jsonl --out my.yaml\n"
    "sutor init models/Qwen3-30B-A3B --data law.jsonl --eval law_test.jsonl general.jsonl "
    "--method lora --ranks 8 --out law.yaml"};

using Paths = std::vector<std::string>;

struct Options {
  std::string model, method, out, output, loss_on;
  Paths train, eval;
  int ranks = 1;
};

void require_one_of(const char* option, const std::string& value, const Paths& choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  fail(ErrorCode::kBadArgument, "sutor init: --{} {}: expected one of {}", option, value,
       fmt::join(choices, ", "));
}

Options options_from(const po::variables_map& values) {
  Options options;
  const auto text = [&](const char* name) {
    return values.count(name) ? values[name].as<std::string>() : std::string();
  };
  const auto list = [&](const char* name) {
    return values.count(name) ? values[name].as<Paths>() : Paths();
  };
  options.model = text("model");
  options.train = list("data");
  options.eval = list("eval");
  if (options.model.empty()) {
    fail(ErrorCode::kBadArgument,
         "sutor init: no model named: give its directory first, before --data (--data takes all "
         "paths that follow it)");
  }
  if (options.train.empty()) {
    fail(ErrorCode::kBadArgument, "sutor init: no rows named: give files by --data");
  }
  options.method = text("method");
  require_one_of("method", options.method, {"esft", "full", "lora"});
  options.loss_on = text("loss-on");
  require_one_of("loss-on", options.loss_on, {"assistant", "last", "completion", "all"});
  options.ranks = values["ranks"].as<int>();
  if (options.ranks < 1 || options.ranks > 65536) {
    fail(ErrorCode::kBadArgument, "sutor init: --ranks {}: expected a number from 1 to 65536",
         options.ranks);
  }
  options.out = text("out");
  options.output = text("output");
  if (options.output.empty()) {
    const std::string stem = std::filesystem::path(options.out).stem().string();
    options.output = "runs/" + (stem.empty() ? "my" : stem);
  }
  return options;
}

// Before the rows are read, which takes a while.
void check_out(const std::string& out) {
  if (out.empty()) return;
  if (is_name_taken(out)) {
    fail(ErrorCode::kOutputExists,
         "{} exists already, and init replaces nothing. Name another --out", out);
  }
  if (!is_folder(parent_of(out))) {
    fail(ErrorCode::kUnreadableFile, "--out {}: the folder {} does not exist", out,
         parent_of(out).string());
  }
}

ModelFacts read_model_facts(const std::string& path) {
  ModelFacts facts = model_facts(read_model_info(path));
  const nlohmann::json config = parse_json(read_model_config(path)).value;
  const auto context = config.find("max_position_embeddings");
  if (context != config.end() && context->is_number_integer()) {
    facts.context = std::max<int64_t>(0, context->get<int64_t>());
  }
  for (const char* key : {"torch_dtype", "dtype"}) {
    const auto dtype = config.find(key);
    if (dtype != config.end() && dtype->is_string()) facts.stored_fp32 = *dtype == "float32";
  }
  return facts;
}

// What a rank may take: the memory of a GPU, or its part of this host's.
int64_t rank_memory(int ranks) {
  std::string why;
  const std::vector<ops::GpuInfo> gpus = ops::visible_gpus(&why);
  if (!gpus.empty()) return gpus[0].total_bytes;
  return available_memory() / ranks;
}

std::string facts_text(const RowFacts& rows, const ModelFacts& model, const ChosenValues& chosen) {
  std::string text = fmt::format(
      "Rows: {} ({}), {} documents, {} tokens, {:.1f}% in the loss{}; documents of {} tokens in "
      "the "
      "median, {} at most.\n",
      format_count(rows.rows), fmt::join(rows.forms, ", "), format_count(rows.documents),
      format_count(rows.tokens),
      100 * static_cast<double>(rows.supervised) / static_cast<double>(rows.tokens),
      rows.looked_at < rows.rows
          ? fmt::format(" (from {} rows that were tokenised)", format_count(rows.looked_at))
          : "",
      format_count(rows.median), format_count(rows.longest));
  if (rows.left_out > 0) {
    text +=
        fmt::format("{} rows cannot be used and will be left out; `sutor prepare` names them.\n",
                    format_count(rows.left_out));
  }
  return text + fmt::format(
                    "Model: {} parameters. Plan: about {} packs, {} steps an epoch, {} "
                    "steps.\n",
                    format_count(model.parameters), format_count(chosen.packs),
                    format_count(chosen.steps_an_epoch), format_count(chosen.steps));
}

std::string command_text(const Arguments& arguments) {
  std::string text = "sutor init";
  for (const std::string& argument : arguments) {
    text += " " + (argument.starts_with("--") ? argument : quoted(argument));
  }
  return text;
}

}  // namespace

int verb_init(const Arguments& arguments) {
  return run_alone([&]() -> int {
    po::options_description options;
    po::positional_options_description positional;
    auto add = options.add_options();
    add("model", po::value<std::string>(), "model directory or base store (also without --model)");
    add("data", po::value<Paths>()->multitoken()->composing(),
        "rows to train on: files, globs in quotes, folders");
    add("eval", po::value<Paths>()->multitoken()->composing(),
        "rows to evaluate on, the task's first; without: some rows are held out");
    add("method", po::value<std::string>()->default_value("esft"), "esft, full or lora");
    add("out", po::value<std::string>(), "the recipe; without: it is printed");
    add("output", po::value<std::string>(), "the run's folder (runs/<name of the recipe>)");
    add("ranks", po::value<int>()->default_value(1), "processes that the run will have");
    add("loss-on", po::value<std::string>()->default_value("assistant"),
        "assistant, last, completion or all");
    positional.add("model", 1);
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const Options chosen_options = options_from(*values);
    check_out(chosen_options.out);
    const ModelFacts model = read_model_facts(chosen_options.model);
    const RowFacts rows = read_row_facts({.model = chosen_options.model,
                                          .paths = chosen_options.train,
                                          .loss_on = chosen_options.loss_on});
    if (!chosen_options.eval.empty()) {  // whether they can be used
      read_row_facts({.model = chosen_options.model,
                      .paths = chosen_options.eval,
                      .loss_on = chosen_options.loss_on});
    }
    ChosenValues chosen = choose_values(rows, model,
                                        {.method = chosen_options.method,
                                         .ranks = chosen_options.ranks,
                                         .has_eval = !chosen_options.eval.empty(),
                                         .rank_memory = rank_memory(chosen_options.ranks)});
    if (chosen_options.loss_on != "assistant") {
      chosen.values["data.loss_on"] = chosen_options.loss_on;
    }
    const std::string facts = facts_text(rows, model, chosen);
    const std::string text = recipe_text({.model = chosen_options.model,
                                          .output = chosen_options.output,
                                          .train = chosen_options.train,
                                          .eval = chosen_options.eval,
                                          .made_by = command_text(arguments),
                                          .facts = facts},
                                         chosen);
    FILE* say = chosen_options.out.empty() ? stderr : stdout;
    if (chosen_options.out.empty()) {
      fmt::print("{}", text);
    } else {
      write_new_file(chosen_options.out, text);
    }
    fmt::print(say, "{}", facts);
    for (const std::string& warning : chosen.warnings) fmt::print(say, "note: {}\n", warning);
    if (!chosen_options.out.empty()) {
      fmt::print("wrote {}. Look it over, then: sutor plan {}; sutor run {}\n", chosen_options.out,
                 chosen_options.out, chosen_options.out);
    }
    return kExitOk;
  });
}

}  // namespace sutor
