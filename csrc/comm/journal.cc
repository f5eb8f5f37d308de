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
    : journal_(journal),
      exceptions_(std::uncaught_exceptions()),
      index_(journal.begin(group, kind, name, peer)) {}

int64_t Journal::Operation::hand_over() {
  journal_.hand_over(index_);
  handed_over_ = true;
  return index_;
}

Journal::Operation::~Operation() {
  if (handed_over_) return;
  if (std::uncaught_exceptions() == exceptions_) {
    journal_.end(index_);
    return;
  }
  const std::lock_guard lock(journal_.mutex_);
  journal_.open_.erase(index_);
}

int64_t Journal::begin(int group, OperationKind kind, const char* name, int peer) {
  int64_t index = 0;
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
    index = total_++;
    slot(index) = record;
    open_[index] = record;
    if (keep_all_) all_.push_back(record);
  }
  try {
    faults_.act(name);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    open_.erase(index);
    throw;
  }
  return index;
}

JournalRecord* Journal::kept(int64_t operation) {
  const int64_t at = static_cast<int64_t>(all_.size()) - (total_ - operation);
  return at >= 0 ? &all_[static_cast<size_t>(at)] : nullptr;
}

void Journal::hand_over(int64_t operation) {
  const std::lock_guard lock(mutex_);
  open_.at(operation).on_device = true;
  if (operation >= total_ - static_cast<int64_t>(kRing)) slot(operation).on_device = true;
  if (JournalRecord* record = kept(operation)) record->on_device = true;
}

void Journal::end(int64_t operation) {
  const std::lock_guard lock(mutex_);
  const auto at = open_.find(operation);
  if (at == open_.end()) return;
  JournalRecord record = at->second;
  open_.erase(at);
  record.done = true;
  record.ended = now();
  if (operation >= total_ - static_cast<int64_t>(kRing)) slot(operation) = record;
  if (JournalRecord* in_all = kept(operation)) *in_all = record;
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

std::optional<JournalRecord> Journal::current() const {
  {
    const std::lock_guard lock(mutex_);
    for (auto at = open_.rbegin(); at != open_.rend(); ++at) {
      if (!at->second.on_device) return at->second;
    }
    if (!open_.empty()) return open_.begin()->second;
  }
  return newest();
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
