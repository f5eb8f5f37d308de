#include "launch/save/background_save.h"

#include <fmt/core.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/partial/checkpoint_list.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/hdf5/h5.h"
#include "csrc/base/process/host.h"
#include "csrc/base/profile.h"
#include "csrc/base/text/text.h"
#include "launch/job/agreement.h"
#include "launch/log/metrics_log.h"

namespace sutor {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPartAlignment = 64;  // of copies: a cache line
constexpr double kLongWait = 1;         // seconds that are worth a line

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

int64_t copy_bytes(const std::vector<SaveJob::Part>& parts) {
  int64_t bytes = 0;
  for (const SaveJob::Part& part : parts) {
    const auto size = static_cast<int64_t>(part.rows.place.num_bytes());
    bytes += (size + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
  }
  return bytes;
}

// Copies all parts, those of a device through windows; returns their places in the copy.
std::vector<ShardedTensor> snapshot(const std::vector<SaveJob::Part>& parts, std::byte* at) {
  std::vector<ShardedTensor> copies;
  std::vector<MemoryCopy> from_host;
  for (const SaveJob::Part& part : parts) {
    const ShardedTensor& place = part.rows.place;
    const auto bytes = static_cast<int64_t>(place.num_bytes());
    if (place.data != nullptr) {
      from_host.push_back({place.data, at, bytes});
    } else {
      std::byte* to = at;
      read_in_windows(part.rows, [&](const ShardedTensor& rows) {
        std::memcpy(to, rows.data, rows.num_bytes());
        to += rows.num_bytes();
      });
    }
    copies.push_back(place);
    copies.back().data = at;
    at += (bytes + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
  }
  copy_memory(from_host);
  return copies;
}

}  // namespace

BackgroundSave::BackgroundSave(std::filesystem::path root, Comm& world)
    : root_(std::move(root)), world_(world) {}

BackgroundSave::~BackgroundSave() {
  std::string ignored;
  task_.wait(ignored);
  if (!save_ || !is_root()) return;
  // Only an error elsewhere leads here. What another rank writes meanwhile is removed by the next
  // start.
  try {
    discard_checkpoint(root_, step(), save_->uuid);
  } catch (const Error&) {
  }
}

void BackgroundSave::reserve(const std::vector<SaveJob::Part>& parts) {
  const int64_t mine = copy_bytes(parts);
  const std::string host = host_name();
  int64_t on_this_host = 0, total = 0;
  for (const std::string& text :
       world_.all_gather_text(fmt::format("{} {}", mine, host), "snapshot sizes")) {
    const size_t space = text.find(' ');
    const int64_t bytes = std::stoll(text.substr(0, space));
    if (text.substr(space + 1) == host) on_this_host += bytes;
    total += bytes;
  }
  // The files' cache counts as available: some is left for it, and for what the steps will need.
  const int64_t available = available_memory();
  int64_t enough[] = {h5::is_thread_safe() && on_this_host <= available / 5 * 4 ? 1 : 0};
  world_.all_reduce(std::span<int64_t>(enough), ReduceOp::kMin, "snapshot memory");
  // Only now, when all ranks of the machine have looked.
  if (enough[0] == 1) enough[0] = memory_.reserve(mine) ? 1 : 0;
  world_.all_reduce(std::span<int64_t>(enough), ReduceOp::kMin, "snapshot memory");
  enough_memory_ = enough[0] == 1;
  if (*enough_memory_ || !is_root()) return;
  fmt::print(
      "saves stop the training: checkpoint.async needs {} more memory for copies of the state, and "
      "{} are available on this machine\n",
      format_bytes(total), format_bytes(available));
}

void BackgroundSave::start(SaveJob job) {
  const ProfileScope scope("save checkpoint");
  await_former();
  const bool async = job.options.async && !job.last;
  if (async && !enough_memory_) reserve(job.parts);
  save_ = InFlight{.job = std::move(job), .begin = Clock::now()};
  begin_staging();
  if (async && *enough_memory_) return write_in_background();
  write_directly();
  finish();
}

void BackgroundSave::await_former() {
  if (!save_) return;
  const Clock::time_point begin = Clock::now();
  const int64_t former = step();
  finish();
  const double waited = seconds_since(begin);
  if (waited < kLongWait || !is_root()) return;
  fmt::print(
      "waited {:.1f} s for the save of step-{:08}: saves follow each other faster than they "
      "are written\n",
      waited, former);
}

void BackgroundSave::begin_staging() {
  save_->uuid = world_.broadcast_text(random_hex(), 0, "checkpoint name");
  try {
    on_rank_0(world_, "begin checkpoint", [&] {
      const std::vector<StateKind>& kinds = save_->job.meta.optimizer.kinds;
      begin_checkpoint(root_, step(), save_->uuid,
                       estimate_checkpoint_bytes(save_->job.wanted, kinds));
    });
  } catch (const Error&) {
    save_.reset();
    throw;
  }
}

void BackgroundSave::write_directly() {
  task_.run([&] {
    CheckpointWriter writer(root_, step(), save_->uuid, world_.rank(),
                            save_->job.meta.optimizer.kinds);
    for (const SaveJob::Part& part : save_->job.parts) {
      writer.add(part.kind, part.rows.place,
                 [rows = part.rows](const ShardedTensor& wanted, const auto& use) {
                   read_in_windows(rows_of(rows, wanted.row_begin, wanted.row_count), use);
                 });
    }
    return writer.write();
  });
}

void BackgroundSave::write_in_background() {
  auto writer = std::make_shared<CheckpointWriter>(root_, step(), save_->uuid, world_.rank(),
                                                   save_->job.meta.optimizer.kinds);
  const std::vector<ShardedTensor> copies = snapshot(save_->job.parts, memory_.data());
  for (size_t i = 0; i < copies.size(); ++i) writer->add(save_->job.parts[i].kind, copies[i]);
  save_->job.parts.clear();  // the tensors may go
  task_.start([writer] { return writer->write(); });
}

int64_t BackgroundSave::progress() const {
  switch (task_.state()) {
    case BackgroundTask::State::kRunning:
      return 1;
    case BackgroundTask::State::kFailed:
      return 2;
    default:
      return 0;
  }
}

void BackgroundSave::at_step(int64_t most) {
  if (!save_ || most == 1) return;
  if (most == 2) return finish();  // which throws
  if (save_->publishing) return end();
  gather_and_publish();
}

void BackgroundSave::finish() {
  if (!save_) return;
  if (!save_->publishing) gather_and_publish();
  end();
}

std::string BackgroundSave::result_of_all(const char* what) {
  std::string result;
  const std::string problem = task_.wait(result);
  try {
    agree(world_, problem, what);
  } catch (const Error&) {
    if (is_root()) discard_checkpoint(root_, step(), save_->uuid);
    save_.reset();
    throw;
  }
  return result;
}

void BackgroundSave::gather_and_publish() {
  const std::string record = result_of_all("write checkpoint");
  const std::vector<std::string> records = world_.all_gather_text(record, "checkpoint records");
  save_->publishing = true;
  if (is_root()) {
    task_.start([this, records] { return publish(records); });
  }
}

// On rank 0's thread. Returns a warning, or nothing.
std::string BackgroundSave::publish(const std::vector<std::string>& records) const {
  const SaveJob& job = save_->job;
  publish_checkpoint(root_, job.meta.step, save_->uuid, records, job.meta, job.wanted);
  if (save_->best) write_pointer(root_, kBestPointer, job.meta.step);
  std::set<int64_t> protect = job.protect;
  protect.insert(job.options.pin.begin(), job.options.pin.end());
  try {
    apply_retention(root_, job.options.keep, protect);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void BackgroundSave::end() {
  const std::string warning = result_of_all("publish checkpoint");
  if (is_root()) {
    fmt::print("saved step-{:08} in {:.1f} s{}\n", step(), seconds_since(save_->begin),
               save_->job.last ? " (last)" : "");
    std::fflush(stdout);
    if (!warning.empty()) {
      fmt::print(stderr, "warning[{}]: {}. The checkpoint is saved; old ones may be left over.\n",
                 WarningCode::kCleanUpFailed, warning);
    }
    if (published_) published_();
  }
  save_.reset();
}

void BackgroundSave::mark_best(int64_t best) {
  if (save_ && step() == best && !save_->publishing) {
    save_->best = true;
    return;
  }
  finish();
  on_rank_0(world_, "point at the best checkpoint", [&] {
    if (best >= 0 && is_folder(root_ / step_directory(best))) {
      write_pointer(root_, kBestPointer, best);
    } else {
      remove_pointer(root_, kBestPointer);
    }
  });
}

}  // namespace sutor
