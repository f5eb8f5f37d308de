#include "csrc/comm/watchdog/job_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/base/process/progress.h"

namespace sutor {
namespace {

using nlohmann::json;

// More lines help nobody; the others are only counted.
constexpr size_t kMostLines = 16;

bool same_group(const JournalGroup& a, const JournalGroup& b) {
  return a.ordinal == b.ordinal && a.name == b.name && a.ranks == b.ranks;
}

std::string numbered(std::span<const int> ranks) {
  return (ranks.size() == 1 ? "rank " : "ranks ") + ranks_text(ranks);
}

std::string process_text(const ProcessIdentity& process) {
  return fmt::format("host {}, pid {}", process.host, process.pid);
}

}  // namespace

std::string ranks_text(std::span<const int> ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size();) {
    size_t j = i + 1;
    while (j < ranks.size() && ranks[j] == ranks[j - 1] + 1) ++j;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", ranks[i]);
    if (j - i > 1) text += fmt::format("{}{}", j - i > 2 ? "-" : ", ", ranks[j - 1]);
    i = j;
  }
  return text;
}

std::vector<std::string> HeartbeatWriter::lines(const Journal& journal) {
  std::vector<std::string> result;
  // The record first, so that the groups that it refers to are already there.
  const std::optional<JournalRecord> current = journal.current();
  for (const int groups = journal.num_groups(); described_ < groups; ++described_) {
    const JournalGroup group = journal.group(described_);
    result.push_back(json{
        {"type", "group"}, {"name", group.name}, {"ranks", group.ranks}, {"ordinal", group.ordinal}}
                         .dump(-1, ' ', false, json::error_handler_t::replace));
  }
  json heartbeat{
      {"type", "heartbeat"}, {"counts", journal.counts()}, {"progress", progress_notes()}};
  if (current) {
    const double since = Journal::now() - (current->done ? current->ended : current->begun);
    heartbeat["operation"] = {{"name", current->name},
                              {"group", current->group},
                              {"kind", static_cast<int>(current->kind)},
                              {"peer", current->peer},
                              {"number", current->number},
                              {"done", current->done},
                              {"for", since}};
  }
  result.push_back(heartbeat.dump(-1, ' ', false, json::error_handler_t::replace));
  return result;
}

JobView::JobView(std::vector<ProcessIdentity> processes, double now) {
  for (ProcessIdentity& process : processes) {
    RankView view;
    view.process = std::move(process);
    view.heard = now;
    ranks_.push_back(std::move(view));
  }
}

std::vector<int> JobView::in_state(RankView::State state) const {
  std::vector<int> result;
  for (int r = 0; r < size(); ++r) {
    if (rank(r).state == state) result.push_back(r);
  }
  return result;
}

void JobView::lose(int r, double now) {
  RankView& view = rank(r);
  if (view.state == RankView::State::kFinished || view.state == RankView::State::kDead) return;
  view.state = RankView::State::kDead;
  view.died = now;
}

void JobView::take(int r, const json& line, double now) {
  RankView& view = rank(r);
  if (line.at("type") == "group") {
    view.groups.push_back({line.at("name"), line.at("ranks"), line.at("ordinal")});
    return;
  }
  view.heard = now;
  view.counts = line.at("counts").get<std::vector<int64_t>>();
  const uint64_t progress = line.value("progress", uint64_t{0});
  if (std::exchange(view.progress, progress) != progress) view.progressed = now;
  if (!line.contains("operation")) return;
  const json& operation = line["operation"];
  JournalRecord record;
  std::strncpy(record.name, operation.at("name").get<std::string>().c_str(),
               JournalRecord::kNameLength - 1);
  record.group = operation.at("group");
  record.kind = static_cast<OperationKind>(operation.at("kind").get<int>());
  record.peer = operation.at("peer");
  record.number = operation.at("number");
  record.done = operation.at("done");
  (record.done ? record.ended : record.begun) = now - operation.at("for").get<double>();
  if (record.group < 0 || record.group >= static_cast<int>(view.groups.size())) return;
  view.newest = record;
}

void JobView::extend_deadlines(double seconds) {
  for (RankView& view : ranks_) view.heard += seconds;
}

bool JobView::waits(int r) const {
  const RankView& view = rank(r);
  return view.state == RankView::State::kRunning && view.newest && !view.newest->done;
}

int64_t JobView::count_of(int r, const JournalGroup& group) const {
  const RankView& view = rank(r);
  for (size_t g = 0; g < view.groups.size() && g < view.counts.size(); ++g) {
    if (same_group(view.groups[g], group)) return view.counts[g];
  }
  return 0;
}

std::vector<int> JobView::waits_for(int r) const {
  const JournalRecord& record = *rank(r).newest;
  if (record.kind != OperationKind::kCollective) return {record.peer};
  const JournalGroup& group = rank(r).groups[static_cast<size_t>(record.group)];
  std::vector<int> result;
  for (const int member : group.ranks) {
    if (member == r || member < 0 || member >= size()) continue;
    const bool here = rank(member).state == RankView::State::kRunning;
    if (!here || count_of(member, group) < record.number) result.push_back(member);
  }
  std::sort(result.begin(), result.end());
  return result;
}

std::string JobView::operation_text(int r) const {
  const JournalRecord& record = *rank(r).newest;
  const JournalGroup& group = rank(r).groups[static_cast<size_t>(record.group)];
  std::string with;
  if (record.kind == OperationKind::kReceive) with = fmt::format(" from rank {}", record.peer);
  if (record.kind == OperationKind::kSend) with = fmt::format(" to rank {}", record.peer);
  return fmt::format("`{}` #{}{} of group {} (ranks {})", record.name, record.number, with,
                     group.name, ranks_text(group.ranks));
}

std::string JobView::last_seen(int r, double now) const {
  const RankView& view = rank(r);
  if (!view.newest) return "before its first operation";
  const JournalRecord& record = *view.newest;
  if (!record.done) {
    return fmt::format("in {}, for {:.1f} s", operation_text(r), now - record.begun);
  }
  return fmt::format("computing for {:.1f} s after {}", now - record.ended, operation_text(r));
}

std::string JobView::headline(double now) {
  std::string text;
  std::vector<int> dead = in_state(RankView::State::kDead);
  std::stable_sort(dead.begin(), dead.end(),
                   [&](int a, int b) { return rank(a).died < rank(b).died; });
  for (const int r : dead) {
    rank(r).reported = true;
    text += fmt::format("error[{}]: rank {} died ({}). Its last heartbeat, {:.1f} s earlier: {}.\n",
                        ErrorCode::kRankDied, r, process_text(rank(r).process),
                        rank(r).died - rank(r).heard, last_seen(r, rank(r).heard));
  }
  for (const int r : in_state(RankView::State::kSilent)) {
    rank(r).reported = true;
    const char state = process_state(rank(r).process);
    const char* why = state == 'T' || state == 't' ? "the process is stopped (SIGSTOP)"
                      : state == 'D'  ? "the process hangs in the kernel (state D: disk or network)"
                      : state != '\0' ? "the process is there but does not answer"
                                      : "its process is stopped, or its host is down or cut off";
    text += fmt::format(
        "error[{}]: rank {} ({}) sent no heartbeat for {:.0f} s: {}. Its last one: {}.\n",
        ErrorCode::kRankSilent, r, process_text(rank(r).process), now - rank(r).heard, why,
        last_seen(r, rank(r).heard));
  }
  return text;
}

std::string JobView::waiting(double now) const {
  using Key = std::tuple<std::string, std::vector<int>>;
  std::map<Key, std::vector<int>> waiting;
  std::vector<int> computing;
  std::vector<std::string> lines;
  for (int r = 0; r < size(); ++r) {
    if (rank(r).state == RankView::State::kDead && !rank(r).reported) {
      lines.push_back(fmt::format("  rank {} died too ({})\n", r, process_text(rank(r).process)));
    }
    if (rank(r).state != RankView::State::kRunning) continue;
    if (waits(r)) {
      waiting[{operation_text(r), waits_for(r)}].push_back(r);
    } else {
      computing.push_back(r);
    }
  }
  for (const auto& [key, ranks] : waiting) {
    const auto& [operation, missing] = key;
    const std::string what = missing.empty() ? ": all its ranks came" : " for " + numbered(missing);
    lines.push_back(fmt::format("  {} wait{} in {}{}\n", numbered(ranks),
                                ranks.size() == 1 ? "s" : "", operation, what));
  }
  for (const int r : computing) {
    lines.push_back(fmt::format("  rank {}: {}\n", r, last_seen(r, now)));
  }
  std::string text;
  for (size_t i = 0; i < std::min(lines.size(), kMostLines); ++i) text += lines[i];
  if (lines.size() > kMostLines) {
    text += fmt::format("  and {} lines more like these\n", lines.size() - kMostLines);
  }
  return text;
}

bool JobView::settled() const {
  for (const int r : in_state(RankView::State::kRunning)) {
    if (!waits(r) || waits_for(r).empty()) return false;
  }
  return true;
}

double JobView::waited(int r, double now) const {
  const JournalRecord& record = *rank(r).newest;
  double since = record.begun;
  std::vector<int> awaited = waits_for(r);
  if (awaited.empty()) {
    // All have come: what this rank last told is older than what the last one did, or the operation
    // itself takes long, but not since before that one came.
    awaited = rank(r).groups[static_cast<size_t>(record.group)].ranks;
  }
  for (const int other : awaited) {
    if (other != r && other >= 0 && other < size()) {
      since = std::max(since, rank(other).progressed);
    }
  }
  return now - since;
}

std::string JobView::slow(double limit, double now) const {
  int longest = -1;
  for (int r = 0; r < size(); ++r) {
    if (!waits(r) || waited(r, now) <= limit) continue;
    if (longest < 0 || rank(r).newest->begun < rank(longest).newest->begun) longest = r;
  }
  if (longest < 0) return "";
  const std::vector<int> missing = waits_for(longest);
  return fmt::format(
      "error[{}]: rank {} has been waiting for {:.0f} s in {}{}. SUTOR_COMM_TIMEOUT={:.0f} is "
      "the longest wait in seconds; raise it when such a wait is right.\n",
      ErrorCode::kWaitedTooLong, longest, now - rank(longest).newest->begun,
      operation_text(longest), missing.empty() ? "" : " for " + numbered(missing), limit);
}

std::string JobView::different_operations() const {
  // The first rank seen in each operation of a group, by number.
  std::map<std::tuple<std::string, std::vector<int>, int, int64_t>, int> first;
  for (int r = 0; r < size(); ++r) {
    if (!waits(r) || rank(r).newest->kind != OperationKind::kCollective) continue;
    const JournalGroup& group = rank(r).groups[static_cast<size_t>(rank(r).newest->group)];
    const auto [at, added] =
        first.insert({{group.name, group.ranks, group.ordinal, rank(r).newest->number}, r});
    const int other = at->second;
    if (added || std::strcmp(rank(other).newest->name, rank(r).newest->name) == 0) continue;
    return fmt::format(
        "error[{}]: rank {} is in {} and rank {} in {}: the ranks of a group must issue the "
        "same "
        "operations in the same order. This is a bug in sutor, or the ranks run different programs "
        "or recipes.\n",
        ErrorCode::kDifferentOperations, other, operation_text(other), r, operation_text(r));
  }
  return "";
}

std::string JobView::disorder(double deadlock_seconds, double now) const {
  const std::string different = different_operations();
  if (!different.empty()) return different;
  for (int r = 0; r < size(); ++r) {
    const bool stuck = waits(r) && now - rank(r).newest->begun > deadlock_seconds;
    if (!stuck || waits_for(r).empty()) return "";
  }
  return fmt::format(
      "error[{}]: all ranks have been waiting for one another for {:.0f} s, in different "
      "operations. This is a bug in sutor, or the ranks run different programs or recipes.\n",
      ErrorCode::kDifferentOperations, deadlock_seconds);
}

}  // namespace sutor
