#include "csrc/comm/journal.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>

#include "csrc/base/error.h"

namespace sutor {
namespace {

const char* kind_text(OperationKind kind) {
  return kind == OperationKind::kSend      ? "send"
         : kind == OperationKind::kReceive ? "receive"
                                           : "collective";
}

uint64_t mix(uint64_t digest, const char* text) {  // FNV-1a
  for (; *text; ++text) digest = (digest ^ static_cast<uint8_t>(*text)) * 0x100000001b3ull;
  return (digest ^ 0xff) * 0x100000001b3ull;
}

}  // namespace

Journal::Journal(int world_rank) : rank_(world_rank), faults_(world_rank) {
  if (std::getenv("SUTOR_JOURNAL") != nullptr) keep_all_ = true;
}

double Journal::now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int Journal::add_group(const std::string& name, std::vector<int> ranks) {
  const std::lock_guard lock(mutex_);
  GroupState state;
  state.group = {name, std::move(ranks), 0};
  for (const GroupState& other : groups_) {
    if (other.group.name == name && other.group.ranks == state.group.ranks) ++state.group.ordinal;
  }
  state.sent.resize(state.group.ranks.size());
  state.received.resize(state.group.ranks.size());
  groups_.push_back(std::move(state));
  return static_cast<int>(groups_.size()) - 1;
}

Journal::Operation::Operation(Journal& journal, int group, OperationKind kind, const char* name,
                              int peer)
    : journal_(journal), exceptions_(std::uncaught_exceptions()) {
  journal_.begin(group, kind, name, peer);
}

Journal::Operation::~Operation() {
  if (std::uncaught_exceptions() == exceptions_) journal_.end();
}

void Journal::begin(int group, OperationKind kind, const char* name, int peer) {
  {
    const std::lock_guard lock(mutex_);
    GroupState& state = groups_.at(static_cast<size_t>(group));
    JournalRecord record;
    std::strncpy(record.name, name, JournalRecord::kNameLength - 1);
    record.group = group;
    record.kind = kind;
    record.begun = now();
    if (kind == OperationKind::kCollective) {
      record.number = ++state.collectives;
      state.digest = mix(state.digest, name);
    } else {
      record.peer = state.group.ranks.at(static_cast<size_t>(peer));
      auto& counts = kind == OperationKind::kSend ? state.sent : state.received;
      record.number = ++counts[static_cast<size_t>(peer)];
    }
    slot(total_++) = record;
    if (keep_all_) all_.push_back(record);
  }
  faults_.act(name);
}

void Journal::end() {
  const std::lock_guard lock(mutex_);
  JournalRecord& record = slot(total_ - 1);
  record.done = true;
  record.ended = now();
  if (!all_.empty()) all_.back() = record;
}

std::vector<JournalRecord> Journal::ring() const {
  const std::lock_guard lock(mutex_);
  std::vector<JournalRecord> result;
  const int64_t count = std::min<int64_t>(total_, kRing);
  for (int64_t i = total_ - count; i < total_; ++i) {
    result.push_back(ring_[static_cast<size_t>(i) % kRing]);
  }
  return result;
}

std::optional<JournalRecord> Journal::newest() const {
  const std::lock_guard lock(mutex_);
  if (total_ == 0) return std::nullopt;
  return ring_[static_cast<size_t>(total_ - 1) % kRing];
}

JournalGroup Journal::group(int index) const {
  const std::lock_guard lock(mutex_);
  return groups_.at(static_cast<size_t>(index)).group;
}

int Journal::num_groups() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(groups_.size());
}

std::vector<int64_t> Journal::counts() const {
  const std::lock_guard lock(mutex_);
  std::vector<int64_t> result;
  for (const GroupState& state : groups_) result.push_back(state.collectives);
  return result;
}

uint64_t Journal::digest(int group) const {
  const std::lock_guard lock(mutex_);
  return groups_.at(static_cast<size_t>(group)).digest;
}

void Journal::keep_all() {
  const std::lock_guard lock(mutex_);
  keep_all_ = true;
}

void Journal::forget_all() {
  const std::lock_guard lock(mutex_);
  all_.clear();
}

std::vector<JournalRecord> Journal::all() const {
  const std::lock_guard lock(mutex_);
  return all_;
}

std::string Journal::text() const {
  std::string text;
  for (const JournalRecord& record : all()) {
    const JournalGroup in = group(record.group);
    text += nlohmann::json{{"name", record.name},    {"group", in.name},
                           {"ranks", in.ranks},      {"ordinal", in.ordinal},
                           {"peer", record.peer},    {"kind", kind_text(record.kind)},
                           {"number", record.number}}
                .dump() +
            "\n";
  }
  return text;
}

void Journal::write_if_asked() const {
  const char* folder = std::getenv("SUTOR_JOURNAL");
  if (folder == nullptr) return;
  const std::filesystem::path path =
      std::filesystem::path(folder) / ("rank-" + std::to_string(rank_) + ".jsonl");
  std::ofstream file(path);
  file << text();
  file.close();
  if (!file) {
    fail(ErrorCode::kWriteFailed, "SUTOR_JOURNAL: {} cannot be written; it should be a folder",
         path.string());
  }
}

}  // namespace sutor
