// Records of a log are whole or not there, and what the disk refused is tried again.
#include "launch/log/append_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "launch/log/evaluation_rows.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using testing::TempDir;

// No file may become larger while this lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(AppendFileTest, ARecordThatDoesNotFitIsCutOffAndWrittenWholeLater) {
  TempDir dir;
  AppendFile file(dir / "run/log");
  file.append("first\n");
  {
    const FileSizeLimit limit(10);
    testing::expect_error(ErrorCode::kWriteFailed, {"run/log", "append to"},
                          [&] { file.append("second\n"); });
    EXPECT_EQ(dir.read("run/log"), "first\n");
    testing::expect_error(ErrorCode::kWriteFailed, {"run/log"}, [&] { file.sync(); });
    testing::expect_error(ErrorCode::kWriteFailed, {"run/log"}, [&] { file.append("third\n"); });
  }
  file.sync();
  EXPECT_EQ(dir.read("run/log"), "first\nsecond\nthird\n");
}

TEST(AppendFileTest, GoesOnBehindWhatIsThereAndFollowsNoLink) {
  TempDir dir;
  AppendFile(dir.write("log", "old\n")).append("new\n");
  EXPECT_EQ(dir.read("log"), "old\nnew\n");
  std::filesystem::create_symlink(dir / "log", dir / "link");
  testing::expect_error(ErrorCode::kWriteFailed, {"link"}, [&] { AppendFile file(dir / "link"); });
  EXPECT_EQ(dir.read("log"), "old\nnew\n");
}

TEST(EvaluationRowsTest, ReadsRowsAndLeavesOutWhatIsNone) {
  TempDir dir;
  EXPECT_TRUE(read_evaluations(dir / "absent").empty());
  const auto path = dir.write(
      "eval.jsonl", std::string("{\"step\": 3, \"set\": \"task\", \"tokens\": 9, \"epoch\": 0, "
                                "\"eval_seconds\": 0.5, \"time\": \"x\", \"loss\": 2.5}\n") +
                        std::string(20, '\0') + "\n[1]\n{\"step\": 4}\n{\"step\": 5, \"set\": \"t");
  const std::vector<EvalMetrics> rows = read_evaluations(path);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].step, 3);
  EXPECT_EQ(rows[0].set, "task");
  EXPECT_EQ(rows[0].values, (std::map<std::string, double>{{"loss", 2.5}}));
}

}  // namespace
}  // namespace sutor
