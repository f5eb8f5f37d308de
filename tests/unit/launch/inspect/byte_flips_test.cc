// Every byte of every file of each artifact is flipped, every file is cut at every length and given
// one byte more: `verify` sees it and names the file, and whoever reads the artifact refuses it or
// reads what was written. With SUTOR_EVERY_BYTE=1 really every one, otherwise a dense sample.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>

#include "checkpoint/compare/verification.h"
#include "checkpoint/export/merged_export.h"
#include "checkpoint/export/peft_adapter.h"
#include "checkpoint/files/recorded_files.h"
#include "checkpoint/huggingface/base_config.h"
#include "checkpoint/huggingface/hf_directory.h"
#include "checkpoint/partial/checkpoint_reader.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "csrc/base/text/json.h"
#include "launch/inspect/verify_file.h"
#include "layers/esft/score_records.h"
#include "parallel_state/model/expert_config.h"
#include "tests/support/base_store_builder.h"
#include "tests/support/checkpoint_fixture.h"
#include "tests/support/small_model.h"
#include "tests/unit/launch/data/store_fixture.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using testing::TempDir;

struct Artifact {
  std::string name;
  fs::path path;                         // a folder or a file
  std::function<Verification()> verify;  // as `sutor verify` does
  std::function<std::string()> use;      // what a reader makes of it; throws Error
};

struct Counts {
  int64_t tried = 0, unseen = 0, unnamed = 0, used = 0;
  std::string first;
};

void put(const fs::path& file, std::string_view bytes) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  ::close(fd);
}

class EveryByte : public ::testing::Test {
 protected:
  // Damages each file of the artifact in turn.
  void damage_all(const Artifact& artifact) {
    ASSERT_TRUE(artifact.verify().corruption.empty()) << artifact.name;
    const std::string sound = artifact.use();
    std::vector<fs::path> files;
    if (fs::is_directory(artifact.path)) {
      for (const fs::path& file : files_below(artifact.path)) files.push_back(artifact.path / file);
    } else {
      files.push_back(artifact.path);
    }
    Counts counts;
    for (const fs::path& file : files) damage(artifact, file, sound, counts);
    std::printf("%s: %ld damages of %zu files, %ld not seen, %ld not named, %ld used\n",
                artifact.name.c_str(), static_cast<long>(counts.tried), files.size(),
                static_cast<long>(counts.unseen), static_cast<long>(counts.unnamed),
                static_cast<long>(counts.used));
    EXPECT_EQ(counts.unseen + counts.unnamed + counts.used, 0) << counts.first;
    EXPECT_GT(counts.tried, 50);
  }

  TempDir dir_;

 private:
  static int step() { return std::getenv("SUTOR_EVERY_BYTE") ? 1 : 7; }

  void damage(const Artifact& artifact, const fs::path& file, const std::string& sound,
              Counts& counts) {
    const std::string good = dir_.read(file);
    const auto with = [&](const std::string& bytes, const std::string& what) {
      put(file, bytes);
      check(artifact, file, what, sound, counts);
    };
    int turn = 0;
    for (size_t at = 0; at < good.size(); ++at) {
      for (const int bits : {1, 0x80}) {
        if (turn++ % step() != 0) continue;
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ bits);
        with(bad, fmt::format("byte {} flipped by {}", at, bits));
      }
    }
    for (size_t length = 0; length < good.size(); ++length) {
      if (turn++ % (2 * step()) == 0)
        with(good.substr(0, length), fmt::format("cut to {}", length));
    }
    with(good + " ", "one byte more");
    put(file, good);
  }

  static void check(const Artifact& artifact, const fs::path& file, const std::string& what,
                    const std::string& sound, Counts& counts) {
    ++counts.tried;
    const auto note = [&](int64_t& count, const std::string& problem) {
      ++count;
      if (counts.first.empty())
        counts.first = fmt::format("{}: {}: {}", file.string(), what, problem);
    };
    const Verification found = artifact.verify();
    bool named = false;
    for (const Corruption& each : found.corruption) {
      named = named || each.text().find(file.filename().string()) != std::string::npos;
    }
    if (found.corruption.empty()) {
      note(counts.unseen, "not seen by verify");
    } else if (!named) {
      note(counts.unnamed, "not named by verify, which says " + found.corruption[0].text());
    }
    try {
      if (artifact.use() != sound) note(counts.used, "other values were used");
    } catch (const Error& error) {
      if (error.exit_code() != kExitData) note(counts.used, error.what());
    }
  }
};

// All tensors of a model as they are loaded.
std::string values_of(const ModelDirectory& directory, const TensorMap& model) {
  std::string values = computing_config(directory.config()).dump();
  directory.check(model);
  for (const TensorEntry& entry : model.entries()) {
    testing::OwnedTensor tensor(entry, DType::kF32);
    directory.load(entry, tensor.view);
    values.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  return values;
}

TEST_F(EveryByte, OfACheckpointIsChecked) {
  testing::SampleValues values(
      {{"model.layers.1.mlp.experts.7.gate_proj.weight", {6, 4}}, {"model.norm.weight", {5}}});
  const fs::path step = testing::save_sample(dir_.path(), 3, values);
  const auto use = [&] {
    const CheckpointReader reader(step);
    std::string read = reader.meta().state.dump() + reader.meta().base_digest;
    for (const IndexedTensor& tensor : reader.tensors()) {
      for (const StateKind& kind : reader.optimizer().kinds) {
        std::vector<float> memory(static_cast<size_t>(tensor.rows() * tensor.row_elements()));
        reader.read(kind.name, {.name = tensor.name,
                                .dtype = DType::kF32,
                                .global_shape = tensor.shape,
                                .row_count = tensor.rows(),
                                .data = reinterpret_cast<std::byte*>(memory.data())});
        read.append(reinterpret_cast<const char*>(memory.data()), 4 * memory.size());
      }
    }
    return read;
  };
  damage_all({"checkpoint", step, [&] { return verify_checkpoint(step, 1); }, use});
}

class EveryByteOfAModel : public EveryByte {
 protected:
  void SetUp() override {
    testing::write_single(dir_, "m", testing::stored_per_expert(model_, DType::kF32));
    dir_.write("m/tokenizer.json", "{}");
  }
  std::vector<TrainedTensor> trained() {
    for (const std::string& name :
         {testing::expert_name(1, "up"), testing::expert_name(0, "down")}) {
      std::vector<float> values = testing::values_of(model_, name);
      for (float& value : values) value += 1;
      memory_.emplace_back(*model_.find(name), DType::kF32, values);
    }
    std::vector<TrainedTensor> tensors;
    for (const testing::OwnedTensor& tensor : memory_) {
      tensors.push_back(trained_tensor(tensor.view));
    }
    return tensors;
  }
  ExportOrigin origin() const {
    return {xxh3("base").text(), {{"program", "test"}}, {{"num_experts_per_tok", 2}}};
  }

  TensorMap model_ = testing::small_model();
  std::vector<testing::OwnedTensor> memory_;
};

TEST_F(EveryByteOfAModel, AsABaseStoreIsChecked) {
  const fs::path store = dir_ / "store";
  testing::make_store(dir_ / "m", store);
  damage_all({"base store", store, [&] { return verify_base_store(store, &model_, 1); },
              [&] { return values_of(BaseStore(store), model_); }});
}

TEST_F(EveryByteOfAModel, AsAMergedExportIsChecked) {
  const fs::path merged = dir_ / "merged";
  export_merged(HfDirectory(dir_ / "m"), model_, trained(), merged, origin());
  damage_all({"merged export", merged, [&] { return verify_model(merged, &model_, 1); },
              [&] {
                const auto directory = open_model(merged);
                check_recorded_model(*directory, 1);
                return values_of(*directory, model_);
              }});
}

TEST_F(EveryByteOfAModel, InADirectoryWithARecordIsChecked) {
  const fs::path path = dir_ / "m";
  record_model_files(path, 1);
  damage_all({"model directory", path, [&] { return verify_model(path, &model_, 1); },
              [&] {
                const auto directory = open_model(path);
                check_recorded_model(*directory, 1);
                return values_of(*directory, model_);
              }});
}

TEST_F(EveryByteOfAModel, OfItsAdapterIsChecked) {
  const fs::path adapter = dir_ / "adapter";
  ExpertConfig config;
  config.experts[1] = {0, 1};
  write_adapter(adapter, trained(), config, origin());
  damage_all({"adapter", adapter, [&] { return verify_adapter_files(adapter, 1); },
              [&] {
                const Adapter opened(adapter);
                opened.check_content(1);
                std::string values = to_json(opened.config()) + opened.base_config().dump();
                for (const auto& [name, digest] : stored_digests(opened.trained_tensors())) {
                  values += name + digest.text();
                }
                return values;
              }});
}

TEST_F(EveryByteOfAModel, OfAPeftAdapterIsChecked) {
  const fs::path adapter = dir_ / "peft";
  const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<TrainedTensor> pairs;
  for (const char* side : {"A", "B"}) {
    TensorEntry entry;
    entry.name = std::string("model.layers.0.self_attn.q_proj.lora_") + side + ".weight";
    entry.shape = side[0] == 'A' ? std::vector<int64_t>{2, 4} : std::vector<int64_t>{4, 2};
    memory_.emplace_back(entry, DType::kF32, values);
  }
  for (const testing::OwnedTensor& tensor : memory_) pairs.push_back(trained_tensor(tensor.view));
  write_peft_adapter(adapter, pairs, {.rank = 2, .alpha = 4, .base = "m"});
  damage_all({"peft adapter", adapter, [&] { return verify_peft_adapter(adapter, 1); },
              [&] {
                const PeftAdapter opened(adapter);
                std::string read = fmt::format("{} {}", opened.rank(), opened.alpha());
                for (testing::OwnedTensor& tensor : memory_) {
                  testing::OwnedTensor copy(
                      TensorEntry{.name = tensor.view.name, .shape = tensor.view.global_shape},
                      DType::kF32);
                  opened.load(copy.view);
                  read.append(reinterpret_cast<const char*>(copy.bytes.data()), copy.bytes.size());
                }
                return read;
              }});
}

TEST_F(EveryByte, OfATokenStoreIsChecked) {
  testing::make_store(dir_, "rows", {5, 9, 3});
  const fs::path path = dir_ / "rows.tokens.h5";
  damage_all({"token store", path, [&] { return verify_file(path, FileKind::kTokenStore); },
              [&] { return TokenStore(path).digest().text(); }});
}

TEST_F(EveryByte, OfScoresIsChecked) {
  ExpertScores scores({1, 4}, 4, 2);
  for (const int layer : {1, 4}) {
    const std::vector<int64_t> chosen = {0, 1, 2, 3, 0, 2};
    const std::vector<float> weights = {0.6f, 0.4f, 0.7f, 0.3f, 0.9f, 0.1f};
    scores.add(layer, chosen, weights, 2);
  }
  const fs::path path = dir_ / "scores.h5";
  write_scores(scores, {"qwen3_moe", "xxh3:aa", "xxh3:bb", "1"}, path, /*first_half=*/scores);
  damage_all({"scores", path, [&] { return verify_file(path, FileKind::kScores); },
              [&] {
                const StoredScores read = read_scores(path);
                std::string values = read.origin.base_digest + read.origin.data_digest;
                for (const ExpertScores* of : {&read.scores, &read.first_half.value()}) {
                  for (const int64_t value : of->flat()) values += fmt::format(" {}", value);
                }
                return values;
              }});
}

TEST_F(EveryByte, OfAnExpertConfigIsChecked) {
  ExpertConfig config;
  config.experts[1] = {2, 0, 13};
  config.experts[12] = {7};
  const fs::path path = dir_.write(
      "expert_config.json", to_json(config, {{"esft.select.top_p", "0.2"}, {"the scores", "x"}}));
  damage_all({"expert config", path, [&] { return verify_file(path, FileKind::kExpertConfig); },
              [&] {
                // As the stages of a recipe do before they use their own.
                const std::string text = dir_.read(path);
                const nlohmann::json json = parse_json(text).value;
                const auto changed = changed_record(json, path.string());
                if (!changed || !changed->empty()) fail(ErrorCode::kBadExpertConfig, "edited");
                return to_json(read_expert_config(path));
              }});
}

}  // namespace
}  // namespace sutor
