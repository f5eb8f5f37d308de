// Metrics: full precision, resume drops what is done again, TensorBoard frames, console texts.
#include "launch/log/metrics_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>

#include "csrc/base/hash.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::TempDir;

StepMetrics at_step(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 1.0 / 3 + static_cast<double>(step);
  metrics.tokens = 64;
  return metrics;
}

std::vector<nlohmann::json> lines(const std::filesystem::path& path) {
  std::vector<nlohmann::json> result;
  std::ifstream stream(path);
  for (std::string line; std::getline(stream, line);) result.push_back(nlohmann::json::parse(line));
  return result;
}

TEST(MetricsLog, WritesALineAStepInFullPrecision) {
  TempDir dir;
  const RunPaths paths(dir / "run");
  MetricsLog log(paths, false, 0);
  StepMetrics metrics = at_step(1);
  metrics.balance_loss = 0.1 + 0.2;
  log.add(metrics);
  const auto rows = lines(paths.metrics());
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0]["loss"].get<double>(), 1.0 / 3 + 1);
  EXPECT_EQ(rows[0]["balance_loss"].get<double>(), 0.1 + 0.2);
  EXPECT_EQ(rows[0]["time"].get<std::string>().size(),
            std::string("2026-11-28T05:17:21.042Z").size());
  for (const char* key :
       {"step", "epoch", "step_seconds", "grad_norm", "lr", "tokens", "supervised_tokens",
        "tokens_per_s", "peak_memory_bytes", "epochs", "supervised_tokens_per_s", "data_seconds"}) {
    EXPECT_TRUE(rows[0].contains(key)) << key;
  }
  EXPECT_FALSE(std::filesystem::exists(paths.tensorboard()));
}

TEST(MetricsLog, ResumeDropsStepsThatAreDoneAgainAndTornLines) {
  TempDir dir;
  const RunPaths paths(dir / "run");
  {
    MetricsLog log(paths, false, 0);
    log.add(EvalMetrics{0, "task", 9, {{"loss", 2.5}}});
    for (int step = 1; step <= 5; ++step) log.add(at_step(step));
    log.add(EvalMetrics{5, "task", 9, {{"loss", 1.5}}});
  }
  std::ofstream(paths.metrics(), std::ios::app) << std::string(9, '\0') << "{\"step\": 6, \"lo";
  {
    MetricsLog log(paths, false, 3);
    log.add(at_step(4));
  }
  std::vector<int64_t> steps;
  for (const auto& row : lines(paths.metrics())) steps.push_back(row["step"]);
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4}));
  const auto evaluations = lines(paths.evaluations());
  ASSERT_EQ(evaluations.size(), 1u);
  EXPECT_EQ(evaluations[0]["set"], "task");
  MetricsLog(paths, false, 0);
  EXPECT_TRUE(lines(paths.metrics()).empty());
}

TEST(MetricsLog, KeepsTheErrorOfTheDiskAndWritesTheLinesLater) {
  TempDir dir;
  const RunPaths paths(dir / "run");
  MetricsLog log(paths, false, 0);
  log.add(at_step(1));
  EXPECT_FALSE(log.error());
  {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    const rlimit limit{std::filesystem::file_size(paths.metrics()) + 1, before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    log.add(at_step(2));
    ::setrlimit(RLIMIT_FSIZE, &before);
  }
  EXPECT_EQ(lines(paths.metrics()).size(), 1u);
  log.sync();
  EXPECT_EQ(lines(paths.metrics()).size(), 2u);
  ASSERT_TRUE(log.error());
  EXPECT_EQ(log.error()->code(), ErrorCode::kWriteFailed);
}

TEST(RunPaths, TellsWhetherATrainingLiesThere) {
  TempDir dir;
  const RunPaths paths(dir / "run");
  EXPECT_FALSE(paths.holds_training());
  std::filesystem::create_directories(paths.checkpoints());
  EXPECT_FALSE(paths.holds_training());
  dir.write("run/checkpoints/step-00000001/MANIFEST.json", "{}");
  EXPECT_TRUE(paths.holds_training());
  EXPECT_EQ(paths.tokens("mine"), dir.path() / "run/tokens/mine.tokens.h5");
}

// tests/interop reads the same file with TensorBoard itself; this proves the framing.
TEST(Tensorboard, FramesEveryRecordWithMaskedChecksums) {
  TempDir dir;
  TensorboardWriter writer(dir / "events", 7);
  writer.add(8, {{"loss", 0.5}, {"lr", 1e-3}});
  const std::string content = dir.read(writer.path());
  const auto masked = [](std::string_view data) {
    const uint32_t crc = crc32c(std::as_bytes(std::span(data)));
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  };
  size_t at = 0;
  std::vector<std::string> records;
  while (at < content.size()) {
    uint64_t length = 0;
    uint32_t check = 0;
    std::memcpy(&length, content.data() + at, 8);
    std::memcpy(&check, content.data() + at + 8, 4);
    EXPECT_EQ(check, masked(std::string_view(content).substr(at, 8)));
    records.push_back(content.substr(at + 12, length));
    std::memcpy(&check, content.data() + at + 12 + length, 4);
    EXPECT_EQ(check, masked(records.back()));
    at += 16 + length;
  }
  ASSERT_EQ(records.size(), 3u);  // version, session start, scalars
  EXPECT_NE(records[0].find("brain.Event:2"), std::string::npos);
  EXPECT_EQ(records[1].substr(9, 2), std::string("\x10\x08"));  // step = 7 + 1
  EXPECT_NE(records[2].find("loss"), std::string::npos);
}

TEST(ConsoleText, ReadsAsPeopleWriteNumbers) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(-1234567), "-1,234,567");
  EXPECT_EQ(format_count(-123), "-123");
  EXPECT_EQ(format_bytes(37 * (int64_t{1} << 30) - 1), "37.0 GiB");
  EXPECT_EQ(format_duration(591), "9m51s");
  EXPECT_EQ(format_duration(7500), "2h05m");
  EXPECT_EQ(format_duration(42.4), "42s");
  EXPECT_EQ(format_duration(NAN), "?");
  StepMetrics metrics = at_step(40);
  metrics.loss = 0.81234;
  metrics.grad_norm = 0.62;
  metrics.lr = 9.8e-6;
  metrics.tokens_per_s = 9214.2;
  metrics.supervised_tokens_per_s = 3120.4;
  metrics.epochs = 1.3401;
  metrics.peak_memory_bytes = int64_t{3} << 29;
  EXPECT_EQ(step_line(metrics, 372, 591, false),
            "step 40/372 | epoch 1.34 | loss 0.8123 | grad norm 0.62 | lr 9.8e-06 | 9,214 tok/s "
            "(3,120 in loss) | 1.5 GiB | left 9m51s");
  metrics.mfu = 0.3124;
  metrics.step_seconds = 2;
  metrics.data_seconds = 0.14;
  EXPECT_NE(step_line(metrics, 372, 591, false).find("| mfu 31.2% | data 7% | 1.5 GiB |"),
            std::string::npos);
  EXPECT_EQ(eval_line(EvalMetrics{100, "task", 9, {{"loss", 0.8}, {"ppl", 2.2255}}}),
            "eval 100 | task: loss 0.8000, ppl 2.2255");
}

}  // namespace
}  // namespace sutor
