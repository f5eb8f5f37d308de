// Which trained weights a verb takes: the one place that decides, and the words that say it.
#pragma once

#include <filesystem>
#include <string>

namespace sutor {

// What "best" means of a training that never beat what it began from by its own evaluations.
enum class WorseThanBase {
  kRefused,  // E0104: the base is the best
  kTold      // a note; the best of the trained ones is taken
};

struct ChosenCheckpoint {
  std::filesystem::path path;  // a step directory; empty: the model as it is
  std::string why;             // "best: task.loss 2.912345", "the newest", "named"
};

// The default of --checkpoint for verbs that only read: the best, else the newest, else none.
inline constexpr const char* kAutoCheckpoint = "auto";
// What the options' help says of the values.
inline constexpr const char* kCheckpointHelp =
    "auto (the best, else the last, else none), best, last, none (the model as it is), or a step "
    "directory";

// `which`: auto, best (the last when no evaluation says which it is), last (or latest), none, or a
// step directory. `checkpoints`: the folder of a run's; it need not exist for auto and none.
// Prints which damaged checkpoints it skips. Throws E0349 when best or last is asked for and there
// is none, E0104 as `rule` says (auto always tells), E0301 for a directory that is not there, and
// what newest_valid_checkpoint does.
ChosenCheckpoint choose_checkpoint(const std::filesystem::path& checkpoints,
                                   const std::string& which,
                                   WorseThanBase rule = WorseThanBase::kRefused);

// "checkpoint run/checkpoints/step-00000040 (best: task.loss 2.912345), mask none". model: its
// path, which is named where there is no checkpoint. mask: an expert config; empty: none.
std::string checkpoint_line(const ChosenCheckpoint& chosen, const std::string& model,
                            const std::string& mask = "");

}  // namespace sutor
