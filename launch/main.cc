// The sutor program: finds the verb and runs it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "csrc/base/crash_report.h"
#include "csrc/base/error.h"
#include "csrc/base/process/console.h"
#include "csrc/base/process/stop_signal.h"
#include "csrc/base/text/nearest.h"
#include "csrc/ops/cpu/kernel_level.h"
#include "csrc/ops/device/gpu.h"
#include "launch/cli/codes/code_help.h"
#include "launch/cli/provenance.h"
#include "launch/cli/verb.h"
#include "launch/job/environment.h"
#include "launch/job/failure.h"

namespace {

// kWorks: has boundaries at which it leaves for a signal. kTrains: needs no console either. Others
// end by a signal at once, and only print, so that a console that fails is their failure.
enum class Kind { kTrains, kWorks, kPrints };

struct Verb {
  std::string_view name, summary;
  int (*run)(const sutor::Arguments&);
  Kind kind = Kind::kPrints;
};

constexpr Verb kVerbs[] = {
    {"doctor", "whether this machine, the launcher and a folder can carry a run",
     sutor::verb_doctor},
    {"models", "families and published models that are supported, and what proves it",
     sutor::verb_models},
    {"init", "a commented recipe for a model and rows", sutor::verb_init},
    {"config", "every value of a recipe with its origin; --reference: all keys",
     sutor::verb_config},
    {"run", "all stages of a recipe in order, skipping what is still valid", sutor::verb_run,
     Kind::kTrains},
    {"convert", "Hugging Face directory -> base store, and back, byte for byte",
     sutor::verb_convert, Kind::kWorks},
    {"prepare", "rows (JSONL) -> token store", sutor::verb_prepare, Kind::kWorks},
    {"score", "route a sample through the frozen model and count experts", sutor::verb_score,
     Kind::kWorks},
    {"select", "choose the experts to train from scores", sutor::verb_select},
    {"plan", "memory, disk and time of a recipe; groups of a layout, placement of experts",
     sutor::verb_plan},
    {"params", "names and regexes of the trainable parameters, per rank", sutor::verb_params},
    {"train", "train the chosen experts (or everything)", sutor::verb_train, Kind::kTrains},
    {"eval", "evaluation sets before and after training, or scores of completions",
     sutor::verb_eval, Kind::kWorks},
    {"export", "adapter and merged model directory", sutor::verb_export, Kind::kWorks},
    {"merge", "several adapters onto one base, conflicts reported", sutor::verb_merge,
     Kind::kWorks},
    {"report", "one offline HTML page of a run: curves, experts, checks, what ran",
     sutor::verb_report},
    {"inspect", "print the contents of a checkpoint, adapter, store or model directory",
     sutor::verb_inspect},
    {"verify", "check every digest of stores, checkpoints, adapters and models",
     sutor::verb_verify},
    {"diff", "compare two stores, models, checkpoints or adapters", sutor::verb_diff},
    {"generate", "completions of prompts, greedy or sampled", sutor::verb_generate, Kind::kWorks},
    {"chat", "a conversation with a model, answers as they come", sutor::verb_chat},
    {"logits", "logits and router choices of given ids, for comparison", sutor::verb_logits},
    {"init-model", "a randomly initialised model directory", sutor::verb_init_model, Kind::kWorks},
};

int usage(FILE* to) {
  fmt::print(
      to,
      "{}\nFine-tunes mixture-of-experts models by training only the experts that a task uses.\n\n"
      "usage: sutor VERB [RECIPE.yaml] [options]; sutor VERB --help; sutor help CODE\n\n",
      sutor::version_text());
  for (const Verb& verb : kVerbs) fmt::print(to, "  {:<11} {}\n", verb.name, verb.summary);
  fmt::print(
      to,
      "\nexit codes: 0 done, 1 check failed, 2 recipe or usage, 3 data or checkpoint invalid,\n"
      "4 directory busy, 5 memory or disk, 6 communication, 7 diverged, 70 internal, 75 requeue\n");
  return to == stdout ? sutor::kExitOk : sutor::kExitUsage;
}

// The nearest verb where one is near, else all of them.
int unknown_verb(std::string_view name) {
  std::vector<std::string> verbs;
  for (const Verb& verb : kVerbs) verbs.emplace_back(verb.name);
  const std::string meant = sutor::nearest(name, verbs);
  const bool recipe = name.ends_with(".yaml") || name.ends_with(".yml");
  if (recipe) {
    fmt::print(stderr, "error[{}]: `{}` is no verb: which one? For all of it: sutor run {}\n",
               sutor::ErrorCode::kBadArgument, name, name);
  } else if (sutor::edit_distance(name, meant) <= std::max<size_t>(2, name.size() / 3)) {
    fmt::print(stderr, "error[{}]: no verb `{}`: did you mean `{}`? `sutor --help` lists all\n",
               sutor::ErrorCode::kBadArgument, name, meant);
  } else {
    fmt::print(stderr, "error[{}]: no verb `{}`. There are {}; `sutor --help` explains them\n",
               sutor::ErrorCode::kBadArgument, name, fmt::join(verbs, ", "));
  }
  return sutor::kExitUsage;
}

// "CUDA 13.0, NCCL 2.28.9; no device: no CUDA-capable device is detected"
std::string devices_text() {
  const std::string versions = sutor::ops::cuda_versions();
  if (versions.empty()) return "built without CUDA";
  std::string why;
  const std::vector<sutor::ops::GpuInfo> gpus = sutor::ops::visible_gpus(&why);
  if (gpus.empty()) return versions + "; no device: " + why;
  std::string text = versions + ";";
  for (size_t i = 0; i < gpus.size(); ++i) {
    text += fmt::format("{} cuda:{} {} ({:.1f} GiB)", i == 0 ? "" : ",", i, gpus[i].name,
                        static_cast<double>(gpus[i].total_bytes) / (1 << 30));
  }
  return text;
}

// What a process needs before anything else: its standard streams, its signals. HDF5 takes no
// locks, whatever the environment says: files are private until they are renamed, and some file
// systems have none.
void start_process() {
  ::setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
  sutor::open_standard_streams();
  sutor::install_crash_report();
  sutor::keep_console_from_failing();
}

// Environment, signals, and what `verb` returns; a console that fails counts where it is the
// result.
int run_verb(const Verb& verb, const sutor::Arguments& arguments) {
  const sutor::Environment environment = sutor::process_environment();
  const bool speaks = sutor::speaks_for_all(environment);
  const sutor::Failure result = sutor::failure_of([&] {
    sutor::check_environment(environment);
    if (verb.kind != Kind::kPrints) sutor::note_stop_signals(speaks);
    return verb.run(arguments);
  });
  if (!result.message.empty() && speaks) sutor::print_failure(result.message);
  if (result.exit_code != sutor::kExitOk || verb.kind == Kind::kTrains) return result.exit_code;
  return sutor::console_exit_code();
}

// sutor help [VERB|CODE]
int help(int argc, char** argv) {
  if (argc < 3) return usage(stdout);
  const std::string_view subject = argv[2];
  for (const Verb& verb : kVerbs) {
    if (verb.name == subject) return run_verb(verb, {"--help"});
  }
  return sutor::run_alone([&] {
    const std::optional<std::string> text = sutor::code_help(subject);
    if (!text) return unknown_verb(subject);
    fmt::print("{}", *text);
    return static_cast<int>(sutor::kExitOk);
  });
}

int run_program(int argc, char** argv) {
  if (argc < 2) return usage(stderr);
  const std::string_view name = argv[1];
  if (name == "--help" || name == "-h") return usage(stdout);
  if (name == "help") return help(argc, argv);
  if (name == "--version") {
    return sutor::run_alone([] {
      fmt::print("{}\nkernels {}\n{}\n", sutor::version_text(), sutor::ops::kernel_level(),
                 devices_text());
      return sutor::kExitOk;
    });
  }
  for (const Verb& verb : kVerbs) {
    if (verb.name == name) return run_verb(verb, sutor::Arguments(argv + 2, argv + argc));
  }
  return unknown_verb(name);
}

#ifndef __SANITIZE_ADDRESS__  // whose own memory is not there yet
[[gnu::section(".preinit_array"),
  gnu::used]] void (*const before_libraries)() = sutor::report_load_failures;
#endif

}  // namespace

int main(int argc, char** argv) {
  start_process();
  const int exit_code = run_program(argc, argv);
  sutor::expect_exit();
  return exit_code;
}
