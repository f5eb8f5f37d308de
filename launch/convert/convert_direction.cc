#include "launch/convert/convert_direction.h"

#include <ATen/Parallel.h>

#include <optional>

#include "checkpoint/format/checkpoint_paths.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/store/store_restore.h"
#include "checkpoint/store/store_writer.h"
#include "csrc/base/directory.h"
#include "csrc/base/text/json.h"
#include "launch/job/agreement.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

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
      const auto writer = std::make_shared<std::optional<StoreFileWriter>>();
      items.push_back({plan_.files[i].bytes, finished_data_file(staging, i).has_value(),
                       [&, i, writer] {
                         writer->emplace(plan_.files[i], plan_.tile_bytes, i, staging);
                         (*writer)->copy(at::get_num_threads());
                       },
                       [writer] {
                         (*writer)->finish();
                         writer->reset();
                       }});
    }
    for (const std::string& path : plan_.other_files) {
      const auto bytes = bytes_of(source_.path() / path);
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
    const auto all = world.all_gather_text(dump_json(mine), "other files");
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

}  // namespace

std::unique_ptr<Direction> make_direction(const fs::path& from, int64_t max_file_bytes,
                                          const nlohmann::json& provenance) {
  if (is_base_store(from)) return std::make_unique<ToDirectory>(from);
  return std::make_unique<ToStore>(from, max_file_bytes, provenance);
}

}  // namespace sutor
