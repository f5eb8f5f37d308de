#include "launch/steps/run_recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "launch/checkpoints/choose_checkpoint.h"
#include "launch/checkpoints/fork.h"
#include "launch/data/rows/row_files.h"
#include "launch/data/token_stores.h"
#include "launch/job/agreement.h"
#include "launch/job/python_step.h"
#include "launch/job/stop_request.h"
#include "launch/log/run_contents.h"
#include "launch/log/run_paths.h"
#include "launch/model/layout_check.h"
#include "launch/model/model_path.h"
#include "launch/model/session.h"
#include "launch/preflight/output_check.h"
#include "launch/python/wandb_run.h"
#include "launch/report/report_page.h"
#include "launch/steps/export.h"
#include "launch/steps/prepare.h"
#include "launch/steps/score.h"
#include "launch/steps/select.h"
#include "launch/steps/stage_checks.h"
#include "launch/steps/step_fingerprint.h"
#include "launch/steps/step_ledger.h"
#include "launch/steps/train.h"
#include "launch/steps/training_basis.h"
#include "launch/train/train_plan.h"

namespace sutor {
namespace {

using Paths = std::vector<std::filesystem::path>;

// What a step reads and makes. A file that it reads as well as makes is left as it is.
struct StepFiles {
  Paths inputs;
  Paths outputs;  // files or folders
};

// The digest reads the whole base: what can be refused before is.
std::string checked_base(const Recipe& recipe, const ModelSource& source, Comm& world) {
  require_layout(recipe.parallel, source.info, world.size());
  return base_digest(source, world).text();
}

class RecipeRun {
 public:
  RecipeRun(const Recipe& recipe, Comm& world, const RunMode& mode,
            const nlohmann::json& provenance)
      : recipe_(recipe),
        world_(world),
        overwrite_(mode.overwrite),
        from_(mode.from),
        provenance_(provenance),
        paths_(recipe.output),
        source_((require_model_path(recipe), recipe.model)),
        base_(checked_base(recipe, source_, world)),
        checks_(recipe, base_) {
    on_rank_0(world, "read the ledger of steps", [&] { ledger_.emplace(paths_.step_ledger()); });
  }

  void go() {
    on_rank_0(world_, "look at what the output holds", [&] {
      check_output();
      check_wandb(recipe_);
    });
    step(RecipeStep::kPrepare, &RecipeRun::prepare_files, &RecipeRun::prepare);
    if (selects()) {
      step(RecipeStep::kScore, &RecipeRun::score_files, &RecipeRun::score);
      step(RecipeStep::kSelect, &RecipeRun::select_files, &RecipeRun::select);
    }
    step(RecipeStep::kTrain, &RecipeRun::train_files, &RecipeRun::train);
    step(RecipeStep::kExport, &RecipeRun::export_files, &RecipeRun::export_);
    on_rank_0(world_, "draw the report", [&] {
      if (did_something_ || !has_report(paths_)) leave_report(paths_);
    });
  }

 private:
  using Texts = std::vector<std::string>;
  using Files = StepFiles (RecipeRun::*)() const;
  using Body = void (RecipeRun::*)();

  bool root() const { return world_.rank() == 0; }
  // Whether the expert config is made here, from scores.
  bool selects() const { return needs_expert_config(recipe_) && !recipe_.esft.config; }

  bool trained_before() const { return !step_directories(paths_.checkpoints()).empty(); }

  // Before anything is replaced: what is there must not be another training's basis, another
  // program's, or a person's.
  void check_output() {
    if (selects()) require_unedited(checks_.expert_config());
    if (!from_.empty()) {
      const bool resume = paths_.holds_training() && !overwrite_;
      const nlohmann::json parent = fork_to_begin(paths_, from_, resume);
      if (!parent.is_null()) check_parent_base(parent, base_);
    }
    if (overwrite_ || !trained_before()) return require_own_training(paths_);
    refuse_other_basis(recipe_, base_, selects(), checks_);
  }

  // Why the step must be done; nothing when its outputs are valid. No reasons: they are not there.
  // `ledger`: whether the ledger knows of it with the same inputs and keys.
  std::optional<Texts> problem_of_step(RecipeStep step, bool ledger) {
    if (step == RecipeStep::kExport) return ledger ? std::nullopt : std::optional(Texts());
    if (step == RecipeStep::kTrain) return problem_of_training(ledger);
    const StageCheck check = step == RecipeStep::kPrepare ? checks_.tokens(true, true)
                             : step == RecipeStep::kScore ? checks_.scores()
                                                          : checks_.expert_config();
    switch (check.standing) {
      case Standing::kValid:
        print_notes(check);
        return {};
      case Standing::kUnknown:  // what `run` of an earlier version has made, or a person
        if (!ledger && ledger_->knows(step)) {
          if (!overwrite_ && trained_before()) {
            fail(ErrorCode::kOtherInputs,
                 "{} holds a training, and the inputs or keys of `{}` have changed since. Go back "
                 "to them, begin anew with --overwrite, or set another output.",
                 recipe_.output, name_of(step));
          }
          return Texts{"its inputs or keys have changed"};
        }
        print_notes(check);
        return {};
      case Standing::kAbsent:
        return Texts();
      case Standing::kEdited:
        require_unedited(check);
        [[fallthrough]];
      default:
        return check.reasons;
    }
  }

  // What is finished must also be whole, by the same measure as when it is resumed.
  std::optional<Texts> problem_of_training(bool ledger) const {
    if (!ledger) return Texts();
    try {
      newest_valid_checkpoint(paths_.checkpoints(), /*strict=*/true);
      return {};
    } catch (const Error& error) {
      if (!is_damage(error.code())) throw;
      return Texts{error.what()};
    }
  }

  // Runs `body` unless the step is valid. What is on the disk is for rank 0 to say, so that `files`
  // is called there alone, when the steps before have ended.
  void step(RecipeStep step, Files files, Body body) {
    leave_if_asked(world_,
                   fmt::format("before the step `{}`. The steps before it are kept; the same "
                               "command goes on",
                               name_of(step)));
    StepFiles found;
    Digest fingerprint;
    const std::string decision = from_rank_0(world_, "validity of a step", [&]() -> std::string {
      found = (this->*files)();
      fingerprint = step_fingerprint(step_keys(recipe_, step), found.inputs,
                                     base_counts(step) ? base_digests() : Texts{}, digests_);
      auto problem = problem_of_step(step, ledger_->valid(step, fingerprint, found.outputs));
      if (!problem && forced(step)) problem.emplace();
      if (!problem) return "skip";
      for (const std::string& reason : *problem) fmt::print("{}: {}\n", name_of(step), reason);
      // A training notes it when it has looked at everything and begins (run_train).
      if (step != RecipeStep::kTrain) ledger_->started(step);
      return "do";
    });
    if (decision == "skip") {
      if (root()) fmt::print("== {}: still valid, skipped\n", name_of(step));
      return;
    }
    if (root()) {
      fmt::print("== {}\n", name_of(step));
      std::fflush(stdout);
    }
    did_something_ = true;
    (this->*body)();
    world_.barrier("end of a step");
    on_rank_0(world_, "record a step", [&] {
      for (const auto& output : found.outputs) {
        const bool is_input = std::count(found.inputs.begin(), found.inputs.end(), output) > 0;
        if (!is_input) digests_.forget(output);
      }
      ledger_->finished(step, fingerprint);
    });
  }

  // `--overwrite` asks for another training, whatever there is.
  bool forced(RecipeStep step) const {
    return overwrite_ && (step == RecipeStep::kTrain || step == RecipeStep::kExport);
  }

  // Tokenizing reads no weights.
  Texts base_digests() const { return {base_, base_config_digest(recipe_.model.path)}; }

  static bool base_counts(RecipeStep step) { return step != RecipeStep::kPrepare; }

  Paths token_files(const std::vector<DataSource>& sets) const {
    Paths files;
    for (const DataSource& source : sets) files.push_back(token_store_path(recipe_, source));
    return files;
  }

  Paths all_token_files() const {
    Paths files = token_files(recipe_.data.train);
    for (const auto& file : token_files(recipe_.data.eval)) files.push_back(file);
    return files;
  }

  StepFiles prepare_files() const {
    Paths inputs;
    for (const auto* sets : {&recipe_.data.train, &recipe_.data.eval}) {
      for (const DataSource& source : *sets) {
        for (const auto& file : row_files(source.path)) inputs.push_back(file);
      }
    }
    const std::filesystem::path model = model_files_root(recipe_.model.path);
    for (const char* file :
         {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
          "chat_template.jinja", "chat_template.json", "config.json"}) {
      inputs.push_back(model / file);
    }
    inputs.push_back(recipe_.data.tokenizer);
    inputs.push_back(recipe_.data.chat_template);
    return {inputs, all_token_files()};
  }

  void prepare() {
    on_rank_0(world_, "prepare", [&] {
      const int code = run_prepare(recipe_);
      // The script has said what is wrong; exit with its code.
      if (code != kExitOk) {
        fail(step_error(code), "preparing the data failed, see the message above");
      }
      checks_.forget_tokens();
    });
  }

  StepFiles score_files() const { return {token_files(recipe_.data.train), {paths_.scores()}}; }

  void score() { run_score(recipe_, source_, world_, {}); }

  StepFiles select_files() const { return {{paths_.scores()}, {paths_.expert_config()}}; }

  void select() {
    on_rank_0(world_, "select", [&] { run_select(select_request(recipe_)); });
  }

  StepFiles train_files() const {
    Paths inputs = all_token_files();
    inputs.push_back(recipe_.esft.config ? std::filesystem::path(*recipe_.esft.config)
                                         : paths_.expert_config());
    return {inputs, {paths_.checkpoints()}};
  }

  void train() {
    // What is there goes on, or is refused; it is never begun anew beside a training.
    const bool resume =
        from_rank_0(world_, "look for a training", [&] {
          return std::string(paths_.holds_training() && !overwrite_ ? "resume" : "start");
        }) == "resume";
    run_train(recipe_, source_, world_, {.resume = resume, .overwrite = overwrite_}, provenance_,
              from_);
  }

  StepFiles export_files() const {
    const std::filesystem::path chosen = choose_checkpoint(paths_.checkpoints(), "best").path;
    Paths outputs;
    for (const std::string& format : recipe_.export_.format) {
      outputs.push_back(paths_.adapter().parent_path() / format);
    }
    return {{chosen / kManifestFile}, outputs};
  }

  void export_() {
    on_rank_0(world_, "export", [&] {
      run_export(recipe_, source_,
                 {.formats = recipe_.export_.format,
                  .folder = paths_.adapter().parent_path(),
                  .verify = true,
                  .overwrite = true,
                  .quantized = parse_quantized_rule(recipe_.export_.quantized)},
                 provenance_);
    });
  }

  const Recipe& recipe_;
  Comm& world_;
  bool overwrite_;
  std::string from_;
  const nlohmann::json& provenance_;
  bool did_something_ = false;
  RunPaths paths_;
  ModelSource source_;  // opened once: its digest is computed once, by rank 0
  std::string base_;
  StageChecks checks_;                // of rank 0
  std::optional<StepLedger> ledger_;  // of rank 0
  FileDigests digests_;               // likewise
};

}  // namespace

void run_recipe(const Recipe& recipe, Comm& world, const RunMode& mode,
                const nlohmann::json& provenance) {
  on_rank_0(world, "preflight of the output", [&] { check_output(RunPaths(recipe.output)); });
  require_exports(recipe);
  RecipeRun(recipe, world, mode, provenance).go();
}

}  // namespace sutor
