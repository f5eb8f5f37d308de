// The sutor program: finds the verb and runs it.
#include <fmt/format.h>

#include <cstdio>
#include <string_view>

#include "csrc/base/error.h"
#include "csrc/ops/cpu/kernel_level.h"
#include "csrc/ops/device/gpu.h"
#include "launch/cli/provenance.h"
#include "launch/cli/verb.h"
#include "launch/job/failure.h"

namespace {

struct Verb {
  std::string_view name, summary;
  int (*run)(const sutor::Arguments&);
};

constexpr Verb kVerbs[] = {
    {"run", "all stages of a recipe in order, skipping what is still valid", sutor::verb_run},
    {"convert", "Hugging Face directory -> base store, and back, byte for byte",
     sutor::verb_convert},
    {"prepare", "rows (JSONL) -> token store", sutor::verb_prepare},
    {"score", "route a sample through the frozen model and count experts", sutor::verb_score},
    {"select", "choose the experts to train from scores", sutor::verb_select},
    {"plan", "process groups of a layout, or placement of experts, without ranks",
     sutor::verb_plan},
    {"params", "names and regexes of the trainable parameters, per rank", sutor::verb_params},
    {"train", "train the chosen experts (or everything)", sutor::verb_train},
    {"eval", "evaluation sets before and after training, or scores of completions",
     sutor::verb_eval},
    {"export", "adapter and merged model directory", sutor::verb_export},
    {"merge", "several adapters onto one base, conflicts reported", sutor::verb_merge},
    {"inspect", "print the contents of a checkpoint, adapter, store or model directory",
     sutor::verb_inspect},
    {"verify", "check every digest of stores, checkpoints, adapters and models",
     sutor::verb_verify},
    {"diff", "compare two stores, models, checkpoints or adapters", sutor::verb_diff},
    {"generate", "completions of prompts, greedy or sampled", sutor::verb_generate},
    {"logits", "logits and router choices of given ids, for comparison", sutor::verb_logits},
    {"init-model", "a randomly initialised model directory", sutor::verb_init_model},
};

int usage(FILE* to) {
  fmt::print(
      to,
      "{}\nFine-tunes mixture-of-experts models by training only the experts that a task uses.\n\n"
      "usage: sutor VERB [RECIPE.yaml] [options]; sutor VERB --help\n\n",
      sutor::version_text());
  for (const Verb& verb : kVerbs) fmt::print(to, "  {:<11} {}\n", verb.name, verb.summary);
  fmt::print(
      to,
      "\nexit codes: 0 done, 1 check failed, 2 recipe or usage, 3 data or checkpoint invalid,\n"
      "4 directory busy, 5 memory or disk, 6 communication, 7 diverged, 70 internal, 75 requeue\n");
  return to == stdout ? sutor::kExitOk : sutor::kExitUsage;
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

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return usage(stderr);
  const std::string_view name = argv[1];
  if (name == "--help" || name == "-h" || name == "help") return usage(stdout);
  if (name == "--version") {
    return sutor::run_alone([] {
      fmt::print("{}\nkernels {}\n{}\n", sutor::version_text(), sutor::ops::kernel_level(),
                 devices_text());
      return sutor::kExitOk;
    });
  }
  for (const Verb& verb : kVerbs) {
    if (verb.name != name) continue;
    return sutor::run_alone([&] { return verb.run(sutor::Arguments(argv + 2, argv + argc)); });
  }
  fmt::print(stderr, "error[{}]: no verb `{}`\n\n", sutor::ErrorCode::kBadArgument, name);
  return usage(stderr);
}
