// Options of scoring: lists of scorers, and what does not go together.
#include "launch/eval/completion_scores.h"

#include <gtest/gtest.h>

#include "launch/cli/command_line.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

namespace po = boost::program_options;
using testing::expect_error;

ScoringOptions scoring(const Arguments& arguments) {
  po::options_description options;
  add_scoring_options(options);
  return scoring_from(*parse_command_line({"eval", "", "", ""}, options, {}, arguments));
}

TEST(EvalCompletions, ScorersComeInListsAndRepeatedAndCountOnce) {
  const std::vector<std::string> expected = {"bleu", "intent", "chrf"};
  EXPECT_EQ(scoring({"--scorer", "bleu,intent", "--scorer", "chrf", "--scorer", "bleu"}).scorers,
            expected);
  EXPECT_EQ(scoring({"--scorer", "exact"}).tokenize, "auto");
}

TEST(EvalCompletions, UnknownScorersAreRefusedWithTheNearestOne) {
  expect_error(ErrorCode::kBadArgument, {"--scorer rouge", "did you mean `rouge_l`?", "numeric"},
               [] {
                 scoring({"--scorer", "intent,rouge"});
               });
  expect_error(ErrorCode::kBadArgument, {"did you mean"}, [] { scoring({"--scorer", "intent,"}); });
  expect_error(ErrorCode::kBadArgument, {"give --scorer", "intent"}, [] { scoring({}); });
  expect_error(ErrorCode::kBadArgument, {"--tokenize zh", "cjk"}, [] {
    scoring({"--scorer", "bleu", "--tokenize", "zh"});
  });
}

TEST(EvalCompletions, TheJudgeAndItsCommandLineGoTogether) {
  const ScoringOptions options = scoring({"--scorer", "judge", "--judge", "python judge.py"});
  EXPECT_EQ(options.judge, "python judge.py");
  EXPECT_EQ(options.judge_seconds, 3600);
  expect_error(ErrorCode::kBadArgument, {"needs --judge"}, [] { scoring({"--scorer", "judge"}); });
  expect_error(ErrorCode::kBadArgument, {"--scorer judge"}, [] {
    scoring({"--scorer", "exact", "--judge", "cat"});
  });
  for (const char* seconds : {"0", "-1", "nan"}) {
    expect_error(ErrorCode::kBadArgument, {"--judge-timeout"}, [&] {
      scoring({"--scorer", "judge", "--judge", "cat", "--judge-timeout", seconds});
    });
  }
}

}  // namespace
}  // namespace sutor
