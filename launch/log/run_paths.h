// The names of all files and folders of a run directory (the recipe's `output`), in one place.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace sutor {

struct RunPaths {
  explicit RunPaths(std::filesystem::path output) : output(std::move(output)) {}

  std::filesystem::path output;

  std::filesystem::path tokens_folder() const { return output / "tokens"; }
  std::filesystem::path tokens(const std::string& set) const {
    return tokens_folder() / (set + ".tokens.h5");
  }
  std::filesystem::path data_report() const { return output / "data_report.html"; }
  std::filesystem::path scores() const { return output / "scores.h5"; }
  std::filesystem::path expert_config() const { return output / "expert_config.json"; }
  std::filesystem::path heat_map() const { return output / "heat_map.svg"; }
  std::filesystem::path metrics() const { return output / "metrics.jsonl"; }
  std::filesystem::path evaluations() const { return output / "eval.jsonl"; }
  std::filesystem::path evaluation() const { return output / "evaluation"; }
  std::filesystem::path tensorboard() const { return output / "tensorboard"; }
  // Files that the library of Weights & Biases keeps, and the id of the run that goes on when a
  // training is resumed.
  std::filesystem::path wandb() const { return output / "wandb"; }
  std::filesystem::path wandb_run() const { return output / "wandb.json"; }
  std::filesystem::path checkpoints() const { return output / "checkpoints"; }
  std::filesystem::path adapter() const { return output / "export" / "adapter"; }
  std::filesystem::path merged() const { return output / "export" / "merged"; }
  std::filesystem::path resolved_recipe() const { return output / "recipe.resolved.yaml"; }
  // Of which checkpoint the training is a fork (launch/checkpoints/fork.h).
  std::filesystem::path fork() const { return output / "fork.json"; }
  // What a training that diverged computed then (launch/train/record/diverged_batch.h).
  std::filesystem::path diverged_batch() const { return output / "diverged.json"; }
  // Digests of inputs and recipe keys that the finished steps had (`sutor run`).
  std::filesystem::path step_ledger() const { return output / "stages.json"; }

  // Held by the job that writes in the folder (launch/output/output_lock.h).
  std::filesystem::path lock() const { return output / ".lock"; }
  // A training that another one replaces lies in `.replaced-<random>/` until the new one has a
  // checkpoint (launch/output/replaced_training.h).
  static constexpr std::string_view kReplacedPrefix = ".replaced-";
  // What a folder allows is tried out in `.probe.<random>/` (launch/preflight/directory_probe.h).
  static constexpr std::string_view kProbePrefix = ".probe.";

  // Whether there are checkpoints or metrics of a training, which `train` without --resume refuses.
  // Throws E0301 when that cannot be seen.
  bool holds_training() const;
};

}  // namespace sutor
