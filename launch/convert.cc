#include "launch/convert.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <optional>

#include "checkpoint/checkpoint_paths.h"
#include "checkpoint/hf_directory.h"
#include "checkpoint/model_compare.h"
#include "checkpoint/open_model.h"
#include "checkpoint/store_restore.h"
#include "checkpoint/store_writer.h"
#include "csrc/base/error.h"
#include "launch/agreement.h"
#include "launch/metrics_log.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

// One file to be written, or compared, by one rank.
struct Item {
  int64_t bytes = 0;
  bool kept = false;  // an earlier start completed it
  std::function<void()> run;
};

// One direction of the conversion.
class Direction {
 public:
  virtual ~Direction() = default;
  virtual const ModelDirectory& source() const = 0;
  virtual std::string fingerprint() const = 0;
  virtual int64_t total_bytes() const = 0;
  virtual std::vector<Item> items(const StagingPaths& staging) = 0;
  // Collective, after all items: what is left to write.
  virtual void conclude(const StagingPaths& staging, Comm& world) {}
  virtual std::unique_ptr<ModelDirectory> result(const fs::path& path) const = 0;
  virtual std::string describe() const = 0;  // "base store, 8 data files"
};

class ToStore final : public Direction {
 public:
  ToStore(const fs::path& from, int64_t max_file_bytes, nlohmann::json provenance)
      : source_(from),
        plan_(plan_store(source_, max_file_bytes)),
        provenance_(std::move(provenance)) {}

  const ModelDirectory& source() const override { return source_; }
  std::string fingerprint() const override { return store_fingerprint(source_, plan_); }
  int64_t total_bytes() const override { return plan_.total_bytes(); }

  std::vector<Item> items(const StagingPaths& staging) override {
    std::vector<Item> items;
    for (size_t i = 0; i < plan_.files.size(); ++i) {
      items.push_back({plan_.files[i].bytes, finished_data_file(staging, i).has_value(), [&, i] {
                         StoreFileWriter writer(plan_.files[i], plan_.tile_bytes, i, staging);
                         writer.copy(at::get_num_threads());
                         writer.finish();
                       }});
    }
    for (const std::string& path : plan_.other_files) {
      const auto bytes = static_cast<int64_t>(fs::file_size(source_.path() / path));
      items.push_back({bytes, false, [&, path] {
                         copied_.push_back(copy_other_file(source_, path, staging,
                                                           fs::path(kStoreFilesFolder) / path));
                       }});
    }
    return items;
  }

  void conclude(const StagingPaths& staging, Comm& world) override {
    nlohmann::json mine = nlohmann::json::array();
    for (const StoreOtherFile& file : copied_) {
      mine.push_back({file.path, file.bytes, file.digest.text()});
    }
    const auto all = world.all_gather_text(mine.dump(), "other files");
    agree(
        world, problem_of([&] {
          if (world.rank() != 0) return;
          std::vector<StoreOtherFile> files;
          for (const std::string& text : all) {
            for (const auto& file : nlohmann::json::parse(text)) {
              files.push_back({file[0], file[1], parse_digest(file[2].get<std::string>(), "rank")});
            }
          }
          write_store_manifest(source_, plan_, std::move(files), provenance_, staging);
        }),
        "write manifest");
  }

  std::unique_ptr<ModelDirectory> result(const fs::path& path) const override {
    return std::make_unique<BaseStore>(path);
  }
  std::string describe() const override {
    return fmt::format("base store of {} data file{}", plan_.files.size(),
                       plan_.files.size() == 1 ? "" : "s");
  }

 private:
  HfDirectory source_;
  StorePlan plan_;
  nlohmann::json provenance_;
  std::vector<StoreOtherFile> copied_;
};

class ToDirectory final : public Direction {
 public:
  explicit ToDirectory(const fs::path& from) : source_(from) {}

  const ModelDirectory& source() const override { return source_; }
  std::string fingerprint() const override { return restore_fingerprint(source_); }
  int64_t total_bytes() const override { return source_.ModelDirectory::total_bytes(); }

  std::vector<Item> items(const StagingPaths& staging) override {
    std::vector<Item> items;
    for (size_t i = 0; i < source_.shards().size(); ++i) {
      items.push_back({source_.shards()[i]->size(), finished_shard(source_, i, staging),
                       [&, i] { restore_shard(source_, i, staging, at::get_num_threads()); }});
    }
    for (const StoreOtherFile& file : source_.manifest().other_files) {
      items.push_back({file.bytes, false, [&] { restore_other_file(source_, file, staging); }});
    }
    return items;
  }

  std::unique_ptr<ModelDirectory> result(const fs::path& path) const override {
    return std::make_unique<HfDirectory>(path);
  }
  std::string describe() const override {
    return fmt::format("model directory of {} shard{}", source_.shards().size(),
                       source_.shards().size() == 1 ? "" : "s");
  }

 private:
  BaseStore source_;
};

// The numbers of the items that each rank works on, largest first, always the next one to the rank
// with least to do; items that are kept cost nothing.
std::vector<std::vector<size_t>> deal(const std::vector<Item>& items, int ranks) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return items[a].bytes > items[b].bytes; });
  std::vector<std::vector<size_t>> shares(static_cast<size_t>(ranks));
  std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
  for (const size_t item : order) {
    const auto least =
        static_cast<size_t>(std::min_element(load.begin(), load.end()) - load.begin());
    shares[least].push_back(item);
    load[least] += items[item].kept ? 0 : items[item].bytes + 1;
  }
  return shares;
}

// Collective. In rounds of one item a rank, so that all learn of an error before they go on.
// `after` (rank 0): bytes that are done.
void work(const std::vector<Item>& items, Comm& world, const char* what,
          const std::function<void(int64_t done)>& after) {
  const auto shares = deal(items, world.size());
  size_t rounds = 0;
  for (const auto& share : shares) rounds = std::max(rounds, share.size());
  int64_t done = 0;
  for (size_t round = 0; round < rounds; ++round) {
    const auto& mine = shares[static_cast<size_t>(world.rank())];
    agree(world, problem_of([&] {
            if (round < mine.size() && !items[mine[round]].kept) items[mine[round]].run();
          }),
          what);
    for (const auto& share : shares) done += round < share.size() ? items[share[round]].bytes : 0;
    if (world.rank() == 0) after(done);
  }
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
  return fmt::format("{:.1f} s, {:.0f} MB/s", seconds,
                     static_cast<double>(bytes) / 1e6 / std::max(seconds, 1e-3));
}

// Every file of the staged result beside the source's, byte for byte. Collective.
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
  work(items, world, "verify", [](int64_t) {});
  if (world.rank() != 0) return;
  fmt::print("verified: {} tensors and {} other files are byte-identical to {} ({})\n",
             format_count(static_cast<int64_t>(source.num_tensors())), source.other_files().size(),
             source.path().string(), speed_text(source.total_bytes(), clock.seconds()));
}

bool lies_in(const fs::path& inner, const fs::path& outer) {
  const fs::path a = fs::weakly_canonical(inner) / "", b = fs::weakly_canonical(outer) / "";
  return std::mismatch(b.begin(), --b.end(), a.begin(), a.end()).first == --b.end();
}

// What `--overwrite` may delete.
void check_replaceable(const ConvertRequest& request) {
  if (lies_in(request.to, request.from) || lies_in(request.from, request.to)) {
    fail(202, "--to {} and --from {} must not lie in each other", request.to.string(),
         request.from.string());
  }
  if (!request.overwrite || !fs::exists(request.to)) return;
  if (is_base_store(request.to) || fs::exists(request.to / "config.json")) return;
  fail(220, "{} is neither a base store nor a model directory, so it is not replaced",
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
  // Rank 0 takes the staging place; all learn what was found there.
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
    const Clock clock;
    work(items, world_, "convert", [&](int64_t done) {
      if (done == printed_ || all < (int64_t{1} << 30)) return;
      if (done - printed_ < all / 50 && done < all) return;
      printed_ = done;
      print("  {} of {}, {}\n", format_bytes(done), format_bytes(all),
            speed_text(std::max<int64_t>(0, done - kept), clock.seconds()));
    });
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
  int64_t printed_ = 0;
  Clock clock_;
};

}  // namespace

void convert_model(const ConvertRequest& request, Comm& world, const nlohmann::json& provenance) {
  std::unique_ptr<Direction> direction;
  agree(world, problem_of([&] {
          if (is_base_store(request.from)) {
            direction = std::make_unique<ToDirectory>(request.from);
          } else {
            direction = std::make_unique<ToStore>(request.from, request.max_file_bytes, provenance);
          }
        }),
        "open source");
  Conversion(request, *direction, world).run();
}

}  // namespace sutor
