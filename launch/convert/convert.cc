#include "launch/convert/convert.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>
#include <numeric>
#include <optional>

#include "checkpoint/compare/model_compare.h"
#include "checkpoint/store/store_manifest.h"
#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/process/progress.h"
#include "launch/convert/convert_direction.h"
#include "launch/job/agreement.h"
#include "launch/job/stop_request.h"
#include "launch/log/metrics_log.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// The indices of the items that each rank works on: greedy, largest item first, each to the rank
// with the least work so far; items that are kept cost nothing.
std::vector<std::vector<size_t>> greedy_assignment(const std::vector<Item>& items, int ranks) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return items[a].bytes > items[b].bytes; });
  std::vector<std::vector<size_t>> assignment(static_cast<size_t>(ranks));
  std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
  for (const size_t item : order) {
    const auto least =
        static_cast<size_t>(std::min_element(load.begin(), load.end()) - load.begin());
    assignment[least].push_back(item);
    load[least] += items[item].kept ? 0 : items[item].bytes + 1;
  }
  return assignment;
}

// Collective. Works in rounds of one item per rank, so that all ranks learn of an error before the
// next round; the finish() of an item overlaps with the next item.
void work(const std::vector<Item>& items, Comm& world, const char* what) {
  const auto assignment = greedy_assignment(items, world.size());
  size_t rounds = 0;
  for (const auto& list : assignment) rounds = std::max(rounds, list.size());
  int64_t all = 0, kept = 0;
  for (const Item& item : items) {
    all += item.bytes;
    kept += item.kept ? item.bytes : 0;
  }
  // Rank 0 counts what it reads itself; of the other ranks it knows at the end of a round.
  Progress progress = Progress::of_reading(what, all, world.rank() == 0);
  progress.begin_at(kept);
  int64_t done = kept;
  const Interruptible here;            // every problem is agreed on
  std::future<std::string> finishing;  // gives the problem of finish()
  const auto finished = [&] { return finishing.valid() ? finishing.get() : std::string(); };
  for (size_t round = 0; round < rounds; ++round) {
    const auto& mine = assignment[static_cast<size_t>(world.rank())];
    const Item* item = round < mine.size() ? &items[mine[round]] : nullptr;
    if (item && item->kept) item = nullptr;
    std::string problem = problem_of([&] {
      leave_if_asked("what is converted is kept, the same command goes on");
      if (item) item->run();
    });
    const std::string before = finished();
    agree(world, before.empty() ? problem : before, what);
    if (item && item->finish) {
      finishing = std::async(std::launch::async, [item] { return problem_of(item->finish); });
    }
    for (const auto& list : assignment) {
      if (round < list.size() && !items[list[round]].kept) done += items[list[round]].bytes;
    }
    progress.set(done);
  }
  agree(world, finished(), what);
}

class Clock {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

std::string speed_text(int64_t bytes, double seconds) {
  const double each = static_cast<double>(bytes) / std::max(seconds, 1e-3);
  return fmt::format("{:.1f} s, {}/s", seconds, format_bytes(static_cast<int64_t>(each)));
}

// Compares every file of the staged result with the source's, byte for byte. Collective.
void verify_result(const Direction& direction, const fs::path& path, Comm& world) {
  std::unique_ptr<ModelDirectory> made;
  agree(world, problem_of([&] {
          made = direction.result(path);
          check_same_files(direction.source(), *made);
        }),
        "open result");
  const ModelDirectory& source = direction.source();
  std::vector<Item> items;
  for (size_t i = 0; i < source.shards().size(); ++i) {
    items.push_back({source.shards()[i]->size(), false,
                     [&, i] { check_same_shard(*made, source, i, at::get_num_threads()); }});
  }
  for (const fs::path& file : source.other_files()) {
    items.push_back({0, false, [&, file] { check_same_other_file(source, *made, file.string()); }});
  }
  const Clock clock;
  work(items, world, "verify");
  if (world.rank() != 0) return;
  fmt::print("verified: {} tensors and {} other files are byte-identical to {} ({})\n",
             format_count(static_cast<int64_t>(source.num_tensors())), source.other_files().size(),
             source.path().string(), speed_text(source.total_bytes(), clock.seconds()));
}

bool is_inside(const fs::path& inner, const fs::path& outer) {
  const fs::path a = real_path(inner) / "", b = real_path(outer) / "";
  return std::mismatch(b.begin(), --b.end(), a.begin(), a.end()).first == --b.end();
}

// Checks that `--overwrite` may delete `to`.
void check_replaceable(const ConvertRequest& request) {
  if (is_inside(request.to, request.from) || is_inside(request.from, request.to)) {
    fail(ErrorCode::kBadArgument, "neither of --to {} and --from {} may be inside the other",
         request.to.string(), request.from.string());
  }
  if (!request.overwrite || !is_there(request.to)) return;
  if (is_base_store(request.to) || is_there(request.to / "config.json")) return;
  fail(ErrorCode::kOutputExists,
       "{} is neither a base store nor a model directory, so it is not replaced",
       request.to.string());
}

class Conversion {
 public:
  Conversion(const ConvertRequest& request, Direction& direction, Comm& world)
      : request_(request), direction_(direction), world_(world), paths_(request.to) {}

  void run() {
    const std::string state = begin();
    if (state == "published") {
      print("{} is complete: an earlier start had finished it\n", request_.to.string());
      return;
    }
    write(state == "resumed");
    direction_.conclude(paths_, world_);
    if (request_.verify) verify_result(direction_, paths_.content, world_);
    agree(world_, problem_of([&] {
            if (directory_) directory_->publish();
          }),
          "publish");
    print("wrote {}: {}, {} tensors, {} ({})\n", request_.to.string(), direction_.describe(),
          format_count(static_cast<int64_t>(direction_.source().num_tensors())),
          format_bytes(direction_.source().total_bytes()),
          speed_text(direction_.source().total_bytes(), clock_.seconds()));
  }

 private:
  // Rank 0 takes the staging directory; all ranks learn what it found there.
  std::string begin() {
    std::string state;
    agree(world_, problem_of([&] {
            if (world_.rank() != 0) return;
            check_replaceable(request_);
            directory_.emplace(request_.to, direction_.fingerprint(), request_.overwrite);
            state = directory_->state() == ResumableDirectory::State::kPublished ? "published"
                    : directory_->state() == ResumableDirectory::State::kResumed ? "resumed"
                                                                                 : "fresh";
          }),
          "begin conversion");
    return world_.broadcast_text(state, 0, "state of the conversion");
  }

  void write(bool resumed) {
    std::vector<Item> items;
    agree(world_, problem_of([&] { items = direction_.items(paths_); }), "plan conversion");
    int64_t all = 0, kept = 0;
    size_t kept_files = 0;
    for (const Item& item : items) {
      all += item.bytes;
      kept += item.kept ? item.bytes : 0;
      kept_files += item.kept;
    }
    agree(world_, problem_of([&] {
            if (world_.rank() == 0) require_space(paths_.root, all - kept);
          }),
          "look for space");
    print("{} {} -> {}, {} rank{} x {} thread{}\n", direction_.source().kind(),
          request_.from.string(), direction_.describe(), world_.size(),
          world_.size() == 1 ? "" : "s", at::get_num_threads(),
          at::get_num_threads() == 1 ? "" : "s");
    if (resumed) {
      print("going on from an earlier start: {} files, {} are there\n", kept_files,
            format_bytes(kept));
    }
    work(items, world_, "convert");
  }

  template <typename... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) const {
    if (world_.rank() != 0) return;
    fmt::print(format, std::forward<Args>(args)...);
    std::fflush(stdout);
  }

  const ConvertRequest& request_;
  Direction& direction_;
  Comm& world_;
  StagingPaths paths_;
  std::optional<ResumableDirectory> directory_;  // on rank 0
  Clock clock_;
};

}  // namespace

void convert_model(const ConvertRequest& request, Comm& world, const nlohmann::json& provenance) {
  std::unique_ptr<Direction> direction;
  const std::string problem = problem_of(
      [&] { direction = make_direction(request.from, request.max_file_bytes, provenance); });
  agree(world, problem, "open source");
  Conversion(request, *direction, world).run();
}

}  // namespace sutor
