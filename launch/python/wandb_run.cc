#include "launch/python/wandb_run.h"

#include <fmt/format.h>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "csrc/base/text/text.h"
#include "launch/job/python_step.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

constexpr const char* kScript = "wandb_log.py";
// How long a job that is done waits for the last lines to be handed over, and one that was asked to
// stop or failed.
constexpr std::chrono::seconds kAtTheEnd{60}, kOnTheWay{5};

// The id of the run that the output folder belongs to; made up and kept where there is none, or
// where another run begins.
std::string run_id(const RunPaths& paths, bool goes_on) {
  if (goes_on && is_there(paths.wandb_run())) {
    const nlohmann::json kept = parse_json(read_file(paths.wandb_run())).value;
    if (kept.is_object() && kept.contains("id") && kept["id"].is_string()) return kept["id"];
  }
  const std::string id = random_hex();
  write_file_atomic(paths.wandb_run(), dump_json(nlohmann::json{{"id", id}}) + "\n");
  return id;
}

nlohmann::json or_null(const std::optional<std::string>& text) {
  return text ? nlohmann::json(*text) : nlohmann::json();
}

}  // namespace

void check_wandb(const Recipe& recipe) {
  if (!recipe.log.wandb.project) return;
  const nlohmann::json job = {{"check", true}, {"mode", recipe.log.wandb.mode}};
  const PythonOutput output = read_python_step(kScript, job);
  const nlohmann::json found = output.exit_code == 0 ? printed_json(output, kScript) : nullptr;
  if (!found.is_object() || !found.contains("problem") || !found["problem"].is_string()) {
    fail(ErrorCode::kPythonStepDied, "tools/{} did not say whether it can log", kScript);
  }
  const std::string problem = found["problem"];
  if (problem.empty()) return;
  fail(ErrorCode::kNoPythonStep, "{}: `log.wandb`: {}", place_of(recipe, "log.wandb.project"),
       problem);
}

WandbRun::WandbRun(const Recipe& recipe, const RunPaths& paths, bool goes_on)
    : folder_(paths.wandb().string()) {
  const WandbOptions& options = recipe.log.wandb;
  make_directory(paths.wandb());
  const std::string id = run_id(paths, goes_on);
  const nlohmann::json job = {{"project", *options.project},
                              {"entity", or_null(options.entity)},
                              {"name", or_null(options.name)},
                              {"mode", options.mode},
                              {"tags", options.tags},
                              {"id", id},
                              {"folder", paths.output.string()},
                              {"recipe", resolved_yaml(recipe)}};
  process_ =
      std::make_unique<SideProcess>(python_command(kScript, job), paths.wandb() / "messages.txt");
  fmt::print("wandb    project {}, run {} ({}); files in {}\n", *options.project, id, options.mode,
             folder_);
}

WandbRun::~WandbRun() {
  if (!finished_) finish(kExitCheckFailed, nlohmann::ordered_json::object());
}

void WandbRun::log(const nlohmann::ordered_json& row) {
  process_->send(dump_json(row));
  warn();
}

void WandbRun::finish(int exit_code, const nlohmann::ordered_json& summary) {
  finished_ = true;
  process_->send(dump_json(nlohmann::ordered_json{{"end", exit_code}, {"summary", summary}}));
  process_->finish(exit_code == kExitOk ? kAtTheEnd : kOnTheWay);
  warn();
}

void WandbRun::warn() {
  const std::optional<std::string> trouble = process_->trouble();
  if (!trouble || warned_) return;
  warned_ = true;
  fmt::print(stderr,
             "warning[{}]: the process that logs to Weights & Biases: {}. The training does not "
             "need it, and its own logs are complete; that process's messages are in "
             "{}/messages.txt\n",
             WarningCode::kSideLogLost, *trouble, folder_);
}

}  // namespace sutor
