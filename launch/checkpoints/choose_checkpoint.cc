#include "launch/checkpoints/choose_checkpoint.h"

#include <fmt/format.h>

#include <cstdio>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/checkpoints/best_checkpoint.h"
#include "launch/checkpoints/unbeaten_base.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

void check_beats_base(const fs::path& checkpoint, WorseThanBase rule) {
  const auto unbeaten = unbeaten_base(CheckpointReader(checkpoint).meta().state);
  if (!unbeaten) return;
  if (rule == WorseThanBase::kTold) {
    fmt::print(stderr, "note: {}; taken is {}, the best of what was trained\n", unbeaten->text(),
               checkpoint.string());
    return;
  }
  fail(ErrorCode::kNothingLearned,
       "{}: {}. The best is {} itself. Train with more data or a lower optim.lr; or take "
       "`--checkpoint latest` (or {}) all the same, or {}.",
       checkpoint.string(), unbeaten->text(), unbeaten->start, checkpoint.string(),
       unbeaten->start == "the base" ? "`--checkpoint none`, the base"
                                     : "`--checkpoint " + unbeaten->start + "`");
}

ChosenCheckpoint best_of_run(const fs::path& checkpoints, const NewestCheckpoint& newest,
                             WorseThanBase rule) {
  auto best = best_checkpoint(checkpoints, newest);
  if (!best) best = read_pointer(checkpoints, kBestPointer);
  if (!best) return {newest.entry->path, "the last; no evaluation says which is the best"};
  check_beats_base(best->path, rule);
  const std::string value = best_text(checkpoints, newest);
  return {best->path, value.empty() ? "best" : "best: " + value};
}

}  // namespace

ChosenCheckpoint choose_checkpoint(const fs::path& checkpoints, const std::string& which,
                                   WorseThanBase rule) {
  if (which == "none") return {"", "no checkpoint is asked for"};
  const bool automatic = which == kAutoCheckpoint;
  const bool last = which == "last" || which == "latest";
  if (!automatic && !last && which != "best") {
    if (!is_folder(which)) {
      fail(ErrorCode::kUnreadableFile,
           "--checkpoint {}: there is no such directory. It takes auto, best, last, none, or a "
           "directory like {}",
           which, (checkpoints / step_directory(100)).string());
    }
    return {which, "named"};
  }
  const NewestCheckpoint newest =
      newest_valid_checkpoint(checkpoints, false, {}, CheckDepth::kStructure);
  for (const std::string& reason : newest.passed_over) {
    fmt::print(stderr, "warning[{}]: checkpoint passed over: {}\n",
               WarningCode::kCheckpointPassedOver, reason);
  }
  if (!newest.entry && automatic) {
    return {"", fmt::format("{} holds no checkpoint", checkpoints.string())};
  }
  if (!newest.entry) {
    fail(ErrorCode::kNoCheckpoint,
         "{} holds no checkpoint: train first, or name one with --checkpoint",
         checkpoints.string());
  }
  if (last) return {newest.entry->path, "the last"};
  return best_of_run(checkpoints, newest, automatic ? WorseThanBase::kTold : rule);
}

std::string checkpoint_line(const ChosenCheckpoint& chosen, const std::string& model,
                            const std::string& mask) {
  const std::string what = chosen.path.empty() ? fmt::format("none, the model {} as it is", model)
                                               : chosen.path.string();
  return fmt::format("checkpoint {} ({}), mask {}", what, chosen.why, mask.empty() ? "none" : mask);
}

}  // namespace sutor
