#include "launch/checkpoints/fork.h"

#include <fmt/format.h>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hash.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxForkBytes = int64_t{1} << 20;

// Of a training that has not come to a checkpoint yet; null: it is no fork.
nlohmann::json read_fork_file(const fs::path& path) {
  if (!is_there(path)) return nullptr;
  ParsedJson parsed = parse_json(read_file(path, kMaxForkBytes));
  const nlohmann::json& json = parsed.value;
  if (parsed.problem.empty() && json.is_object() && json.contains("from") &&
      json["from"].is_string() && json.contains("manifest") && json["manifest"].is_string()) {
    return json;
  }
  fail(
      ErrorCode::kBrokenFile,
      "{} says of what the training is a fork, and cannot be read. Begin anew with --overwrite and "
      "--from",
      path.string());
}

void check_same_parent(const nlohmann::json& known, const nlohmann::json& asked,
                       const std::string& output) {
  if (known.is_object() && known.value("manifest", "") == asked.at("manifest")) return;
  fail(
      ErrorCode::kOtherRecipe,
      "{} holds {}, not a fork of {}. Leave --from out to go on with it; or set another output, or "
      "add --overwrite, to begin a fork of that one",
      output, known.is_object() ? "a fork of " + fork_text(known) : "a training that is no fork",
      fork_text(asked));
}

}  // namespace

nlohmann::json fork_origin(const fs::path& checkpoint) {
  const fs::path path = real_path(checkpoint);
  if (!is_there(path / kManifestFile)) {
    fail(ErrorCode::kIncomplete,
         "--from {}: no checkpoint is there. It takes a step directory, such as "
         "run/checkpoints/step-00000100 (`sutor inspect run/checkpoints` lists them)",
         checkpoint.string());
  }
  const CheckpointReader reader(path);  // all but the data is whole
  return {{"from", path.string()},
          {"step", reader.meta().step},
          {"manifest", xxh3(read_file(path / kManifestFile)).text()}};
}

nlohmann::json fork_to_begin(const RunPaths& paths, const std::string& from, bool resume) {
  nlohmann::json asked;
  if (!from.empty()) {
    if (lies_within(from, paths.output)) {
      fail(ErrorCode::kBadArgument,
           "--from {} lies in the output {}: a fork goes into a folder of its own. Set another "
           "output",
           from, paths.output.string());
    }
    asked = fork_origin(from);
  }
  if (!resume) return asked;
  const NewestCheckpoint newest =
      newest_valid_checkpoint(paths.checkpoints(), false, {}, CheckDepth::kStructure);
  if (newest.entry) {
    if (!asked.is_null()) {
      check_same_parent(newest.state.value("fork", nlohmann::json()), asked, paths.output.string());
    }
    return nullptr;
  }
  const nlohmann::json begun = read_fork_file(paths.fork());
  if (begun.is_null()) {
    if (!asked.is_null() && paths.holds_training()) {
      check_same_parent(begun, asked, paths.output.string());
    }
    return asked;
  }
  if (!asked.is_null()) {
    check_same_parent(begun, asked, paths.output.string());
    return asked;
  }
  const nlohmann::json now = fork_origin(begun.at("from").get<std::string>());
  if (now.at("manifest") != begun.at("manifest")) {
    fail(ErrorCode::kOtherRecipe,
         "{} was begun as a fork of {}, which is another checkpoint now: {}. Begin anew with "
         "--overwrite and --from",
         paths.output.string(), fork_text(begun), fork_text(now));
  }
  return now;
}

void check_parent_base(const nlohmann::json& origin, const std::string& base) {
  const std::string path = origin.at("from");
  const std::string theirs = load_manifest(path).meta.base_digest;
  if (theirs == base) return;
  fail(
      ErrorCode::kOtherBase,
      "--from {} was trained on another base model: {}; model.path is {}. A fork needs the base of "
      "its parent",
      path, theirs, base);
}

void check_parent(const nlohmann::json& origin, const std::string& base, const std::string& plan,
                  const nlohmann::json& lora) {
  check_parent_base(origin, base);
  const fs::path path = origin.at("from").get<std::string>();
  const CheckpointReader reader(path);
  const CheckpointMeta& meta = reader.meta();
  const nlohmann::json theirs = meta.state.value("lora", nlohmann::json());
  if (theirs != lora) {
    fail(ErrorCode::kOtherRecipe,
         "--from {} has the low-rank pairs {}, this recipe {}. A fork takes the method, lora.rank "
         "and lora.alpha of its parent",
         path.string(), theirs.dump(), lora.dump());
  }
  if (meta.plan_digest == plan) return;
  const fs::path config = path.parent_path().parent_path() / "expert_config.json";
  fail(
      ErrorCode::kOtherTrainable,
      "--from {} trains other parameters than this recipe: plan {}, here {}. A fork trains what "
      "its parent does: set `esft.config` to the parent's ({}), and train.method, esft.also_train "
      "and esft.keep_frozen as there. To train others on top of it, export the parent and name the "
      "adapter in model.adapters.",
      path.string(), meta.plan_digest, plan, config.string());
}

std::string fork_text(const nlohmann::json& origin) {
  return fmt::format("{} (step {}, manifest {})", origin.value("from", "?"),
                     origin.value("step", int64_t{-1}), origin.value("manifest", "?"));
}

}  // namespace sutor
