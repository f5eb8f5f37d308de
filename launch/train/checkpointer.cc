#include "launch/train/checkpointer.h"

#include <fmt/core.h>
#include <torch/types.h>

#include <random>
#include <set>
#include <sstream>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "checkpoint/partial/partial_checkpoint.h"
#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "launch/job/agreement.h"

namespace sutor {
namespace {

std::string random_uuid() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

// "key: value" lines of `a` that `b` does not have.
std::vector<std::string> lines_missing(const std::string& a, const std::string& b) {
  std::istringstream in(b), from(a);
  std::set<std::string> present;
  for (std::string line; std::getline(in, line);) present.insert(line);
  std::vector<std::string> missing;
  for (std::string line; std::getline(from, line);) {
    if (!present.count(line)) missing.push_back(line);
  }
  return missing;
}

// What may change between a training and its resumption: how long it goes on, how a batch is cut,
// and when it is measured. Everything else makes it another training.
bool may_change(const std::string& line) {
  for (const char* key : {"schedule.steps:", "schedule.epochs:", "train.micro_batch:", "eval."}) {
    if (line.starts_with(key)) return true;
  }
  return false;
}

void check_same_training(const TrainState& saved, const TrainState& now, const std::string& where,
                         bool print) {
  std::string refused, changed;
  for (const std::string& line : lines_missing(saved.schedule, now.schedule)) {
    (may_change(line) ? changed : refused) += "\n  then " + line;
  }
  for (const std::string& line : lines_missing(now.schedule, saved.schedule)) {
    (may_change(line) ? changed : refused) += "\n  now  " + line;
  }
  if (saved.data_digest != now.data_digest) refused += "\n  the training data";
  if (!refused.empty()) {
    fail(ErrorCode::kOtherRecipe,
         "{} was made with other keys or data; going on would mix two trainings:{}", where,
         refused);
  }
  if (!changed.empty() && print) fmt::print("resumed with other keys than before:{}\n", changed);
}

constexpr const char* kKindNames[] = {"master", "exp_avg", "exp_avg_sq"};

}  // namespace

nlohmann::json to_json(const TrainState& state) {
  return {{"step", state.step},
          {"cursor", {{"epoch", state.cursor.epoch}, {"position", state.cursor.position}}},
          {"seed", state.seed},
          {"schedule", state.schedule},
          {"data_digest", state.data_digest},
          {"lora", state.lora},
          {"best",
           {{"metric", state.best_metric}, {"value", state.best_value}, {"step", state.best_step}}},
          // Nothing draws random numbers while training: the order of the data is a function of
          // (seed, epoch, position), and there is no dropout.
          {"rng", "none"}};
}

TrainState train_state_from(const nlohmann::json& json, const std::string& where) {
  try {
    TrainState state;
    state.step = json.at("step");
    state.cursor.epoch = json.at("cursor").at("epoch");
    state.cursor.position = json.at("cursor").at("position");
    state.seed = json.at("seed");
    state.schedule = json.at("schedule");
    state.data_digest = json.at("data_digest");
    state.lora = json.value("lora", nlohmann::json());
    state.best_metric = json.at("best").at("metric");
    state.best_value = json.at("best").at("value");
    state.best_step = json.at("best").at("step");
    return state;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kBadManifest, "{}: the training state cannot be read: {}", where, error.what());
  }
}

Checkpointer::Checkpointer(std::filesystem::path root, Digest base, const TrainPlan& plan,
                           ParameterStore& store, nlohmann::json provenance)
    : root_(std::move(root)),
      base_(base),
      plan_(plan),
      store_(store),
      world_(store.parallel().world()),
      provenance_(std::move(provenance)) {}

std::vector<IndexedTensor> Checkpointer::wanted() const {
  std::vector<IndexedTensor> tensors;
  for (const std::string& name : plan_.trainable.names()) {
    tensors.push_back({name, DType::kF32, store_.model().tensors.find(name)->shape});
  }
  return tensors;
}

void Checkpointer::save(const TrainState& state, int keep) {
  const ProfileScope scope("save checkpoint");
  const bool root_rank = world_.rank() == 0;
  const std::string uuid = world_.broadcast_text(random_uuid(), 0, "checkpoint name");
  agree(world_, problem_of([&] {
          if (!root_rank) return;
          std::filesystem::create_directories(root_);
          begin_checkpoint(root_, state.step, uuid, estimate_checkpoint_bytes(wanted()));
        }),
        "begin checkpoint");
  std::string record;
  const std::string write_problem = problem_of([&] {
    CheckpointWriter writer(root_, state.step, uuid, world_.rank());
    for (FlatGroup* group : store_.groups()) {
      for (size_t kind = 0; kind < 3; ++kind) {
        for (const ShardedTensor& rows : group->state(kKindNames[kind])) {
          writer.add(kAllKinds[kind], rows);
        }
      }
    }
    record = writer.write();
  });
  std::string publish_problem;
  try {
    agree(world_, write_problem, "write checkpoint");
    const std::vector<std::string> records = world_.all_gather_text(record, "checkpoint records");
    publish_problem = problem_of([&] {
      if (!root_rank) return;
      CheckpointMeta meta;
      meta.step = state.step;
      meta.base_digest = base_.text();
      meta.plan_digest = plan_.digest.text();
      meta.expert_config = nlohmann::json::parse(to_json(plan_.config));
      meta.layout = store_.parallel().layout().describe();
      meta.state = to_json(state);
      meta.provenance = provenance_;
      publish_checkpoint(root_, state.step, uuid, records, meta, wanted());
      apply_retention(root_, keep);
    });
    agree(world_, publish_problem, "publish checkpoint");
  } catch (const Error&) {
    if (root_rank) discard_checkpoint(root_, state.step, uuid);
    throw;
  }
}

void Checkpointer::mark_best(int64_t step) {
  if (world_.rank() == 0) write_pointer(root_, kBestPointer, step);
}

bool Checkpointer::resume(TrainState& state, bool strict) {
  std::string chosen;
  agree(world_, problem_of([&] {
          if (world_.rank() != 0) return;
          remove_leftovers(root_);
          const NewestCheckpoint newest = newest_valid_checkpoint(root_, strict);
          for (const std::string& reason : newest.passed_over) {
            fmt::print(stderr, "warning[{}]: checkpoint passed over: {}\n",
                       WarningCode::kCheckpointPassedOver, reason);
          }
          if (newest.entry) chosen = newest.entry->path.string();
        }),
        "choose checkpoint");
  chosen = world_.broadcast_text(chosen, 0, "chosen checkpoint");
  if (chosen.empty()) return false;
  agree(world_, problem_of([&] {
          const CheckpointReader reader(chosen);
          const CheckpointMeta& meta = reader.meta();
          if (meta.base_digest != base_.text()) {
            fail(
                ErrorCode::kOtherBase,
                "{} belongs to another base model: it was trained on {}, model.path is {}. Use the "
                "base that it was trained on.",
                chosen, meta.base_digest, base_.text());
          }
          if (meta.plan_digest != plan_.digest.text()) {
            fail(ErrorCode::kOtherTrainable,
                 "{} trains other parameters than this recipe: plan {}, here {}. Use the expert "
                 "config that it was made with, or another output.",
                 chosen, meta.plan_digest, plan_.digest.text());
          }
          const TrainState saved = train_state_from(meta.state, chosen);
          check_same_training(saved, state, chosen, world_.rank() == 0);
          for (FlatGroup* group : store_.groups()) {
            for (size_t kind = 0; kind < 3; ++kind) {
              for (const ShardedTensor& rows : group->state(kKindNames[kind])) {
                reader.read(kAllKinds[kind], rows);
              }
            }
            group->values_from_masters();
          }
          const std::string schedule = state.schedule;
          state = saved;
          state.schedule = schedule;
        }),
        "read checkpoint");
  for (FlatGroup* group : store_.groups()) group->gather_values();
  return true;
}

}  // namespace sutor
