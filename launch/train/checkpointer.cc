#include "launch/train/checkpointer.h"

#include <fmt/core.h>
#include <torch/types.h>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/huggingface/base_config.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "checkpoint/partial/partial_checkpoint.h"
#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "csrc/base/text/text.h"
#include "launch/job/agreement.h"
#include "launch/model/overlay.h"
#include "launch/train/same_training.h"

namespace sutor {
namespace {

// Without the keys that recipes of earlier programs had and that only ever had these values, so
// that their trainings can go on.
std::string without_former_keys(std::string schedule) {
  for (const std::string line :
       {"train.recompute: none\n", "train.z_loss: 0\n", "train.early_stop: null\n"}) {
    const size_t at = schedule.find(line);
    if (at != std::string::npos) schedule.erase(at, line.size());
  }
  return schedule;
}

// BEST may lead elsewhere after a crash before mark_best(), or to a checkpoint that is passed over.
void repair_best(const std::filesystem::path& root, int64_t step) {
  std::error_code error;
  if (step < 0 || !std::filesystem::is_directory(root / step_directory(step), error)) return;
  write_pointer(root, kBestPointer, step);
}

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
    state.schedule = without_former_keys(json.at("schedule"));
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
                           ParameterStore& store, Optimizer& optimizer, nlohmann::json provenance,
                           nlohmann::json base_config)
    : root_(std::move(root)),
      base_(base),
      plan_(plan),
      store_(store),
      optimizer_(optimizer),
      world_(store.parallel().world()),
      provenance_(std::move(provenance)),
      base_config_(std::move(base_config)) {}

std::vector<IndexedTensor> Checkpointer::wanted() const {
  std::vector<IndexedTensor> tensors;
  for (const std::string& name : plan_.trainable.names()) {
    tensors.push_back({name, store_.model().tensors.find(name)->shape});
  }
  return tensors;
}

void Checkpointer::save(const TrainState& state, int keep) {
  const ProfileScope scope("save checkpoint");
  const bool root_rank = world_.rank() == 0;
  const std::vector<StateKind>& kinds = optimizer_.declared().kinds;
  const std::string uuid = world_.broadcast_text(random_hex(), 0, "checkpoint name");
  on_rank_0(world_, "begin checkpoint", [&] {
    std::filesystem::create_directories(root_);
    begin_checkpoint(root_, state.step, uuid, estimate_checkpoint_bytes(wanted(), kinds));
  });
  std::string record;
  const std::string write_problem = problem_of([&] {
    CheckpointWriter writer(root_, state.step, uuid, world_.rank(), kinds);
    for (const StateKind& kind : kinds) {
      for (const ShardValues& rows : optimizer_.state(kind.name)) {
        writer.add(kind.name, rows.place, [rows](const ShardedTensor& wanted, const auto& use) {
          read_in_windows(rows_of(rows, wanted.row_begin, wanted.row_count), use);
        });
      }
    }
    record = writer.write();
  });
  try {
    agree(world_, write_problem, "write checkpoint");
    const std::vector<std::string> records = world_.all_gather_text(record, "checkpoint records");
    on_rank_0(world_, "publish checkpoint", [&] {
      CheckpointMeta meta;
      meta.step = state.step;
      meta.base_digest = base_.text();
      meta.base_config = base_config_;
      meta.plan_digest = plan_.digest.text();
      meta.expert_config = nlohmann::json::parse(to_json(plan_.config));
      meta.layout = store_.parallel().layout().describe();
      meta.optimizer = optimizer_.declared();
      meta.state = to_json(state);
      meta.provenance = provenance_;
      publish_checkpoint(root_, state.step, uuid, records, meta, wanted());
      apply_retention(root_, keep);
    });
  } catch (const Error&) {
    if (root_rank) discard_checkpoint(root_, state.step, uuid);
    throw;
  }
}

void Checkpointer::mark_best(int64_t step) {
  if (world_.rank() == 0) write_pointer(root_, kBestPointer, step);
}

void Checkpointer::check_belongs(const CheckpointReader& reader) const {
  const std::string where = reader.path().string();
  const CheckpointMeta& meta = reader.meta();
  if (meta.base_digest != base_.text()) {
    fail(ErrorCode::kOtherBase,
         "{} belongs to another base model: it was trained on {}, model.path is {}. Use the base "
         "that it was trained on.",
         where, meta.base_digest, base_.text());
  }
  check_base_config(meta.base_config, base_config_, where, "model.path");
  if (meta.base_config.is_null() && world_.rank() == 0) warn_of_base_config(where);
  if (meta.plan_digest != plan_.digest.text()) {
    fail(ErrorCode::kOtherTrainable,
         "{} trains other parameters than this recipe: plan {}, here {}. Use the expert config "
         "that it was made with, or another output.",
         where, meta.plan_digest, plan_.digest.text());
  }
  if (meta.optimizer != optimizer_.declared()) {
    fail(ErrorCode::kOtherOptimizer,
         "{} has the state of optimizer {}, this training has {}. Go on with `optim.name: {}`, "
         "or start anew in another output.",
         where, meta.optimizer.text(), optimizer_.declared().text(), meta.optimizer.optimizer);
  }
}

bool Checkpointer::resume(TrainState& state, bool strict) {
  std::string chosen;
  on_rank_0(world_, "choose checkpoint", [&] {
    remove_leftovers(root_);
    const NewestCheckpoint newest = newest_valid_checkpoint(root_, strict);
    for (const std::string& reason : newest.passed_over) {
      fmt::print(stderr, "warning[{}]: checkpoint passed over: {}\n",
                 WarningCode::kCheckpointPassedOver, reason);
    }
    if (newest.entry) chosen = newest.entry->path.string();
  });
  chosen = world_.broadcast_text(chosen, 0, "chosen checkpoint");
  if (chosen.empty()) return false;
  agree(world_, problem_of([&] {
          const CheckpointReader reader(chosen);
          check_belongs(reader);
          const TrainState saved = train_state_from(reader.meta().state, chosen);
          check_same_training(saved, state, chosen, world_.rank() == 0);
          for (const StateKind& kind : optimizer_.declared().kinds) {
            for (const ShardValues& rows : optimizer_.state(kind.name)) {
              fill_in_windows(rows, [&](ShardedTensor& window) { reader.read(kind.name, window); });
            }
          }
          optimizer_.state_restored();
          state = continued(saved, state);
          if (world_.rank() == 0) repair_best(root_, state.best_step);
        }),
        "read checkpoint");
  for (FlatBuffer* buffer : store_.buffers()) buffer->gather_values();
  return true;
}

}  // namespace sutor
