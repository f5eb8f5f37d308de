#include "launch/train/checkpointer.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <fmt/core.h>

#include <algorithm>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/format/tile_bytes.h"
#include "checkpoint/huggingface/base_config.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/parallel.h"
#include "launch/job/agreement.h"
#include "launch/model/overlay.h"
#include "launch/train/same_training.h"

namespace sutor {
namespace {

// Without the keys that recipes of earlier programs had and that only ever had these values, so
// that their trainings can go on; with what a missing key meant to them.
std::string in_words_of_today(std::string schedule) {
  for (const std::string line :
       {"train.recompute: none\n", "train.z_loss: 0\n", "train.early_stop: null\n"}) {
    const size_t at = schedule.find(line);
    if (at != std::string::npos) schedule.erase(at, line.size());
  }
  const bool balances = schedule.find("\ntrain.balance_loss: ") != std::string::npos &&
                        schedule.find("\ntrain.balance_loss: 0\n") == std::string::npos;
  if (balances && schedule.find("\ntrain.balance_over: ") == std::string::npos) {
    schedule += "train.balance_over: each micro-batch by itself\n";
  }
  return schedule;
}

// The same rows in parts that threads can share out. A part's ends cost a block of the file each.
std::vector<SaveJob::Part> in_pieces(const std::vector<SaveJob::Part>& parts) {
  constexpr int64_t kPieceBytes = 4 * kTileBytes;
  std::vector<SaveJob::Part> pieces;
  for (const SaveJob::Part& part : parts) {
    const ShardedTensor& place = part.rows.place;
    const int64_t row_bytes = place.columns() * static_cast<int64_t>(size_of(place.dtype));
    const int64_t step = std::max<int64_t>(1, kPieceBytes / std::max<int64_t>(1, row_bytes));
    for (int64_t row = 0; row < place.row_count; row += step) {
      const int64_t count = std::min(step, place.row_count - row);
      pieces.push_back({part.kind, rows_of(part.rows, place.row_begin + row, count)});
    }
  }
  return pieces;
}

// State of a kind, converted where the destination has another dtype (of another optimizer).
void read_as(const CheckpointReader& reader, const std::string& kind, ShardedTensor& window) {
  const OptimizerState& stored = reader.optimizer();
  const DType dtype = stored.kinds[stored.index_of(kind)].dtype;
  if (dtype == window.dtype) return reader.read(kind, window);
  ShardedTensor converted = window;
  converted.dtype = dtype;
  std::vector<std::byte> bytes(converted.num_bytes());
  converted.data = bytes.data();
  reader.read(kind, converted);
  convert_elements(bytes.data(), dtype, window.data, window.dtype, window.num_elements());
}

}  // namespace

nlohmann::json to_json(const TrainState& state) {
  nlohmann::json json = {
      {"step", state.step},
      {"cursor", {{"epoch", state.cursor.epoch}, {"position", state.cursor.position}}},
      {"seed", state.seed},
      {"schedule", state.schedule},
      {"data_digest", state.data_digest},
      {"leaves_out", state.leaves_out},
      {"lora", state.lora},
      {"best",
       {{"metric", state.best_metric}, {"value", state.best_value}, {"step", state.best_step}}},
      {"base", state.base_values},
      // Nothing draws random numbers while training: the order of the data is a function of
      // (seed, epoch, position), and there is no dropout.
      {"rng", "none"}};
  if (!state.fork.is_null()) {
    json["fork"] = state.fork;
    json["optimizer_steps"] = state.optimizer_steps;
  }
  return json;
}

TrainState train_state_from(const nlohmann::json& json, const std::string& where) {
  try {
    TrainState state;
    state.step = json.at("step");
    state.cursor.epoch = json.at("cursor").at("epoch");
    state.cursor.position = json.at("cursor").at("position");
    state.seed = json.at("seed");
    state.schedule = in_words_of_today(json.at("schedule"));
    state.data_digest = json.at("data_digest");
    state.leaves_out = json.value("leaves_out", false);
    state.lora = json.value("lora", nlohmann::json());
    state.best_metric = json.at("best").at("metric");
    state.best_value = json.at("best").at("value");
    state.best_step = json.at("best").at("step");
    state.fork = json.value("fork", nlohmann::json());
    state.optimizer_steps = json.value("optimizer_steps", int64_t{0});
    if (json.contains("base")) json.at("base").get_to(state.base_values);
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
      base_config_(std::move(base_config)),
      saves_(root_, world_) {}

std::vector<IndexedTensor> Checkpointer::wanted() const {
  std::vector<IndexedTensor> tensors;
  for (const std::string& name : plan_.trainable.names()) {
    tensors.push_back({name, store_.model().tensors.find(name)->shape});
  }
  return tensors;
}

std::vector<SaveJob::Part> Checkpointer::parts() const {
  std::vector<SaveJob::Part> parts;
  for (const StateKind& kind : optimizer_.declared().kinds) {
    for (ShardValues& rows : optimizer_.state(kind.name)) {
      parts.push_back({kind.name, std::move(rows)});
    }
  }
  return parts;
}

void Checkpointer::reserve() { saves_.reserve(parts()); }

void Checkpointer::save(const TrainState& state, const CheckpointOptions& options, bool last) {
  SaveJob job{.wanted = wanted(), .parts = parts(), .options = options, .last = last};
  job.meta.step = state.step;
  job.meta.base_digest = base_.text();
  job.meta.base_config = base_config_;
  job.meta.plan_digest = plan_.digest.text();
  job.meta.expert_config = nlohmann::json::parse(to_json(plan_.config));
  job.meta.layout = store_.parallel().layout().describe();
  job.meta.optimizer = optimizer_.declared();
  job.meta.state = to_json(state);
  job.meta.provenance = provenance_;
  if (resumed_from_ >= 0) job.protect.insert(resumed_from_);
  saves_.start(std::move(job));
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

std::string Checkpointer::choose(bool strict, const DamagedSteps& damaged) {
  return from_rank_0(world_, "choose checkpoint", [&]() -> std::string {
    remove_leftovers(root_);
    const NewestCheckpoint newest =
        newest_valid_checkpoint(root_, strict, damaged, CheckDepth::kStructure);
    for (const std::string& reason : newest.passed_over) {
      const bool told = std::any_of(damaged.begin(), damaged.end(),
                                    [&](const auto& known) { return known.second == reason; });
      if (told) continue;
      fmt::print(stderr, "warning[{}]: checkpoint passed over: {}\n",
                 WarningCode::kCheckpointPassedOver, reason);
    }
    if (newest.entry) return newest.entry->path.string();
    refuse_foreign_files(root_);
    return "";
  });
}

TrainState Checkpointer::read_from(const std::string& path, const TrainState& now) {
  const CheckpointReader reader(path);
  check_belongs(reader);
  const TrainState saved = train_state_from(reader.meta().state, path);
  check_same_training(saved, now, path, world_.rank() == 0);
  read_parts(reader, parts());
  return continued(saved, now);
}

void Checkpointer::read_parts(const CheckpointReader& reader,
                              const std::vector<SaveJob::Part>& parts) const {
  const std::vector<SaveJob::Part> pieces = in_pieces(parts);
  parallel_tasks(at::get_num_threads(), static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const auto& [kind, rows] = pieces[static_cast<size_t>(i)];
    fill_in_windows(rows, [&](ShardedTensor& window) { read_as(reader, kind, window); });
  });
}

void Checkpointer::begin_from(TrainState& state) {
  const std::string path = state.fork.at("from");
  bool moments = false;
  const std::string problem = problem_of([&] {
    const CheckpointReader reader(path);
    moments = reader.optimizer() == optimizer_.declared();
    std::vector<SaveJob::Part> wanted = parts();
    if (!moments) {
      // Another optimizer's values, under the name that it has for them.
      std::erase_if(wanted, [&](const SaveJob::Part& part) {
        return part.kind != optimizer_.declared().values;
      });
      for (SaveJob::Part& part : wanted) part.kind = reader.optimizer().values;
    }
    read_parts(reader, wanted);
    if (!moments) return;
    state.optimizer_steps =
        reader.meta().step + reader.meta().state.value("optimizer_steps", int64_t{0});
  });
  agree(world_, problem, "read the checkpoint of a fork");
  state.fork["takes"] = moments ? "weights and moments" : "weights";
  optimizer_.state_restored();
  for (FlatBuffer* buffer : store_.buffers()) buffer->gather_values();
}

bool Checkpointer::resume(TrainState& state, bool strict) {
  DamagedSteps damaged;
  for (;;) {
    const std::string chosen = choose(strict, damaged);
    if (chosen.empty()) return false;
    TrainState restored;
    const std::string problem = problem_of([&] { restored = read_from(chosen, state); });
    const std::vector<Error> problems = problems_of_all(world_, problem, "read checkpoint");
    if (problems.empty()) {
      state = restored;
      resumed_from_ = state.step;
      on_rank_0(world_, "point at a checkpoint",
                [&] { write_pointer(root_, kLatestPointer, state.step); });
      break;
    }
    // A rank that cannot read now says nothing about the checkpoint, so that it stands.
    for (const Error& error : problems) {
      if (strict || !is_damage(error.code())) throw error;
    }
    const std::string reason = problems.front().what();
    if (world_.rank() == 0) {
      fmt::print(stderr, "warning[{}]: checkpoint passed over: {}\n",
                 WarningCode::kCheckpointPassedOver, reason);
    }
    damaged[*parse_step_directory(std::filesystem::path(chosen).filename().string())] = reason;
  }
  optimizer_.state_restored();
  for (FlatBuffer* buffer : store_.buffers()) buffer->gather_values();
  return true;
}

}  // namespace sutor
