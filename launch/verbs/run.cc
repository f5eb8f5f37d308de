// sutor run: all stages of a recipe in order, skipping what is still valid.
#include <fmt/format.h>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "launch/cli/command_line.h"
#include "launch/cli/provenance.h"
#include "launch/cli/recipe_arguments.h"
#include "launch/data/token_stores.h"
#include "launch/job/job.h"
#include "launch/job/python_step.h"
#include "launch/model/session.h"
#include "launch/stages/stage_ledger.h"
#include "launch/stages/stages.h"
#include "launch/train/train_plan.h"
#include "launch/verbs/prepare.h"
#include "launch/verbs/select.h"
#include "recipes/recipe_reader.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "run",
    "Goes the whole way of a recipe: prepare, score, select, train, export; a stage whose outputs "
    "are still valid is skipped, an unfinished training goes on.",
    "sutor run RECIPE [--set key=value]... [--overwrite] [--profile]",
    "sutor run my.yaml\n"
    "mpiexec -n 4 sutor run my.yaml --set parallel.ep=4"};

class Run {
 public:
  Run(const Recipe& recipe, Comm& world, const nlohmann::json& provenance)
      : recipe_(recipe),
        world_(world),
        provenance_(provenance),
        paths_(recipe.output),
        ledger_(paths_.stages()),
        base_(base_digest(ModelSource(recipe.model), world).text()) {}

  void go(bool overwrite) {
    prepare();
    if (needs_expert_config(recipe_) && !recipe_.esft.config) {
      score();
      select();
    }
    train(overwrite);
    export_();
  }

 private:
  using Paths = std::vector<std::filesystem::path>;

  // Runs `body` unless the stage is valid. Rank 0 decides for all.
  template <typename Body>
  void stage(Stage stage, const Digest& fingerprint, const Paths& outputs, Body&& body) {
    const std::string name(name_of(stage));
    const std::string valid = world_.broadcast_text(
        ledger_.valid(stage, fingerprint, outputs) ? "yes" : "no", 0, "stage validity");
    if (valid == "yes") {
      if (root()) fmt::print("== {}: still valid, skipped\n", name);
      return;
    }
    if (root()) {
      fmt::print("== {}\n", name);
      std::fflush(stdout);
    }
    body();
    world_.barrier("end of stage");
    if (root()) ledger_.finished(stage, fingerprint);
  }

  // What rank 0 does alone; its error becomes everybody's end.
  template <typename Body>
  void alone(Body&& body) {
    if (root()) body();
    world_.barrier("stage of rank 0");
  }

  bool root() const { return world_.rank() == 0; }

  Paths token_files() const {
    Paths files;
    for (const auto* sets : {&recipe_.data.train, &recipe_.data.eval}) {
      for (const DataSource& source : *sets) files.push_back(token_store_path(recipe_, source));
    }
    return files;
  }

  Paths train_token_files() const {
    Paths files;
    for (const DataSource& source : recipe_.data.train) {
      files.push_back(token_store_path(recipe_, source));
    }
    return files;
  }

  void prepare() {
    Paths inputs;
    for (const auto* sets : {&recipe_.data.train, &recipe_.data.eval}) {
      for (const DataSource& source : *sets) inputs.push_back(source.path);
    }
    const std::filesystem::path model = model_files_root(recipe_.model.path);
    for (const char* file :
         {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"}) {
      inputs.push_back(model / file);
    }
    inputs.push_back(recipe_.data.tokenizer);
    inputs.push_back(recipe_.data.chat_template);
    const Digest print = stage_fingerprint(stage_keys(recipe_, Stage::kPrepare), inputs, {});
    stage(Stage::kPrepare, print, token_files(), [&] {
      alone([&] {
        const int code = prepare_tokens(recipe_, 0);
        // The script has said what is wrong; exit with its code.
        if (code != kExitOk) {
          fail(step_error(code), "preparing the data failed, see the message above");
        }
      });
    });
  }

  void score() {
    const Digest print =
        stage_fingerprint(stage_keys(recipe_, Stage::kScore), train_token_files(), {base_});
    stage(Stage::kScore, print, {paths_.scores()}, [&] { run_score(recipe_, world_, {}); });
  }

  void select() {
    const Digest print =
        stage_fingerprint(stage_keys(recipe_, Stage::kSelect), {paths_.scores()}, {base_});
    stage(Stage::kSelect, print, {paths_.expert_config()},
          [&] { alone([&] { run_select(recipe_); }); });
  }

  void train(bool overwrite) {
    Paths inputs = token_files();
    inputs.push_back(recipe_.esft.config ? std::filesystem::path(*recipe_.esft.config)
                                         : paths_.expert_config());
    const Digest print = stage_fingerprint(stage_keys(recipe_, Stage::kTrain), inputs, {base_});
    stage(Stage::kTrain, print, {paths_.checkpoints()}, [&] {
      // An unfinished training of the same keys and data goes on; of others it is refused.
      const bool resume = !overwrite && !list_checkpoints(paths_.checkpoints()).empty();
      run_train(recipe_, world_, {.resume = resume, .overwrite = overwrite || !resume},
                provenance_);
    });
  }

  void export_() {
    const auto best = read_pointer(paths_.checkpoints(), kBestPointer);
    const auto latest = read_pointer(paths_.checkpoints(), kLatestPointer);
    const auto& chosen = best ? best : latest;
    Paths outputs;
    for (const std::string& format : recipe_.export_.format) {
      outputs.push_back(paths_.adapter().parent_path() / format);
    }
    const Digest print = stage_fingerprint(
        stage_keys(recipe_, Stage::kExport),
        {chosen ? chosen->path / kManifestFile : std::filesystem::path()}, {base_});
    stage(Stage::kExport, print, outputs, [&] {
      alone([&] {
        run_export(recipe_,
                   {.formats = recipe_.export_.format,
                    .folder = paths_.adapter().parent_path(),
                    .verify = true,
                    .overwrite = true,
                    .quantized = parse_quantized_rule(recipe_.export_.quantized)},
                   provenance_);
      });
    });
  }

  const Recipe& recipe_;
  Comm& world_;
  nlohmann::json provenance_;
  RunPaths paths_;
  StageLedger ledger_;
  std::string base_;
};

}  // namespace

int verb_run(const Arguments& arguments) {
  po::options_description options;
  po::positional_options_description positional;
  add_recipe_options(options, positional);
  options.add_options()("overwrite", po::bool_switch(),
                        "delete an earlier training in the output first");
  add_profile_option(options);
  return run_job([&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, positional, arguments);
    if (!values) return kExitOk;
    const Recipe recipe = recipe_from(*values);
    require_optimizer_dtype(recipe);
    set_threads(recipe.train.threads);
    with_profile(*values, world, [&] {
      Run(recipe, world, provenance("run", arguments)).go((*values)["overwrite"].as<bool>());
    });
    return kExitOk;
  });
}

}  // namespace sutor
