#include "launch/log/run_contents.h"

#include <algorithm>
#include <regex>
#include <vector>

#include "checkpoint/format/checkpoint_paths.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "launch/log/plan_file.h"
#include "launch/log/run_record.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_foreign(const fs::path& path) {
  fail(ErrorCode::kOutputExists,
       "{} was not made by a training of sutor, so it is neither deleted nor moved. Put it "
       "somewhere else, or set another output.",
       path.string());
}

// None for a folder that is not there. Throws E0301 when it cannot be listed.
std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::vector<fs::directory_entry> entries;
  std::error_code error;
  if (!fs::exists(folder, error)) return entries;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) entries.push_back(*at);
  if (error) {
    fail(ErrorCode::kUnreadableFile, "cannot list {}: {}", folder.string(), error.message());
  }
  return entries;
}

bool is_real_directory(const fs::directory_entry& entry) {
  std::error_code error;
  return fs::is_directory(entry.symlink_status(error));
}

bool is_plain_file(const fs::directory_entry& entry) {
  std::error_code error;
  return fs::is_regular_file(entry.symlink_status(error));
}

void check_step(const fs::path& step) {
  static const std::regex file("w\\d{4,}\\.(h5|idx)");
  for (const fs::directory_entry& entry : entries_of(step)) {
    const std::string name = entry.path().filename().string();
    const bool known = name == kStateFile || name == kManifestFile || std::regex_match(name, file);
    if (!known || !is_plain_file(entry)) fail_foreign(entry.path());
  }
}

void check_checkpoints(const fs::path& root) {
  static const std::regex temporary("\\..+\\.tmp");
  for (const fs::directory_entry& entry : entries_of(root)) {
    const std::string name = entry.path().filename().string();
    if (is_real_directory(entry)) {
      if (name.starts_with(kStagingPrefix) || name.starts_with(kTrashPrefix)) continue;
      if (!parse_step_directory(name)) fail_foreign(entry.path());
      check_step(entry.path());
      continue;
    }
    const bool pointer = name == kLatestPointer || name == kBestPointer;
    if (!is_plain_file(entry) || (!pointer && !std::regex_match(name, temporary))) {
      fail_foreign(entry.path());
    }
  }
}

// events.out.tfevents.<microseconds>.<host>.<process>: other writers count seconds.
void check_tensorboard(const fs::path& folder) {
  static const std::regex ours("events\\.out\\.tfevents\\.\\d{16,}\\..+\\.\\d+");
  for (const fs::directory_entry& entry : entries_of(folder)) {
    const std::string name = entry.path().filename().string();
    if (!is_plain_file(entry) || !std::regex_match(name, ours)) fail_foreign(entry.path());
  }
}

// Our lines begin with their step; one may be unfinished.
void check_log(const fs::path& path) {
  if (!is_name_taken(path)) return;
  require_plain_file(path);
  const InputFile file(path);
  const std::string_view start = R"({"step":)";
  std::string found(std::min<size_t>(start.size(), static_cast<size_t>(file.size())), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(found.data(), found.size())));
  if (!start.starts_with(found)) fail_foreign(path);
}

}  // namespace

void require_plain_contents(const RunPaths& paths) {
  const fs::path exports = paths.adapter().parent_path();
  for (const fs::path& folder :
       {paths.tokens_folder(), paths.checkpoints(), paths.tensorboard(), exports, paths.wandb(),
        paths.evaluation(), paths.evaluation() / "base", paths.evaluation() / "trained",
        paths.evaluation() / "training"}) {
    require_own_directory(folder);
  }
  for (const fs::path& file :
       {paths.lock(), paths.data_report(), paths.scores(), paths.expert_config(), paths.heat_map(),
        paths.metrics(), paths.evaluations(), paths.wandb_run(), paths.resolved_recipe(),
        paths.fork(), paths.step_ledger(), run_record_path(paths), plan_file(paths.output),
        paths.output / "receipt.json", paths.output / "report.html", paths.diverged_batch(),
        paths.evaluation() / "evaluation.json", paths.checkpoints() / kLatestPointer,
        paths.checkpoints() / kBestPointer}) {
    require_plain_file(file);
  }
}

void require_own_training(const RunPaths& paths) {
  check_checkpoints(paths.checkpoints());
  check_tensorboard(paths.tensorboard());
  check_log(paths.metrics());
  check_log(paths.evaluations());
}

}  // namespace sutor
