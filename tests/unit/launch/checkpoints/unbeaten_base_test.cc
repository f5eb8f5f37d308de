// Whether a training made anything better than its base.
#include "launch/checkpoints/unbeaten_base.h"

#include <gtest/gtest.h>

namespace sutor {
namespace {

nlohmann::json state_of(const std::string& metric, double base, double best, int64_t step) {
  return {{"best", {{"metric", metric}, {"value", best}, {"step", step}}},
          {"base", {{metric, base}}}};
}

TEST(UnbeatenBaseTest, ABetterEvaluationBeatsTheBase) {
  EXPECT_FALSE(unbeaten_base(state_of("task.loss", 3.0, 2.9, 10)));
  EXPECT_FALSE(unbeaten_base(state_of("task.token_acc", 0.5, 0.6, 10)));
  EXPECT_FALSE(unbeaten_base(state_of("task.exact_match", 0.0, 0.1, 10)));
}

TEST(UnbeatenBaseTest, AWorseOrEqualOneDoesNot) {
  EXPECT_TRUE(unbeaten_base(state_of("task.loss", 3.0, 3.1, 10)));
  EXPECT_TRUE(unbeaten_base(state_of("task.loss", 3.0, 3.0, 10)));
  EXPECT_TRUE(unbeaten_base(state_of("task.token_acc", 0.5, 0.4, 10)));
}

TEST(UnbeatenBaseTest, SaysBothValuesAndTheStep) {
  const std::string text = unbeaten_base(state_of("task.loss", 3.0, 3.125, 40))->text();
  for (const char* word : {"no evaluation beat the base", "task.loss", "3.0", "3.125", "step 40"}) {
    EXPECT_NE(text.find(word), std::string::npos) << text;
  }
}

TEST(UnbeatenBaseTest, OfScoresMoreIsBetterAndOfLossesLess) {
  EXPECT_FALSE(unbeaten_base(state_of("task.rouge_l", 0.5, 0.6, 10)));
  EXPECT_TRUE(unbeaten_base(state_of("task.rouge_l", 0.5, 0.4, 10)));
  EXPECT_TRUE(unbeaten_base(state_of("v1.loss.ppl", 3.0, 3.5, 10)));
}

TEST(UnbeatenBaseTest, AForkIsMeasuredByItsParent) {
  nlohmann::json state = state_of("task.loss", 3.0, 3.125, 40);
  state["fork"] = {{"from", "old/step-00000002"}};
  EXPECT_NE(unbeaten_base(state)->text().find("no evaluation beat old/step-00000002:"),
            std::string::npos);
}

TEST(UnbeatenBaseTest, WithoutAnEvaluationOfEitherNothingIsSaid) {
  EXPECT_FALSE(unbeaten_base(state_of("task.loss", 3.0, 0.0, -1)));  // none after the base's
  nlohmann::json state = state_of("task.loss", 3.0, 3.1, 10);
  state["base"] = nlohmann::json::object();  // eval.before_training: false
  EXPECT_FALSE(unbeaten_base(state));
  state["base"] = {{"other.loss", 3.0}};
  EXPECT_FALSE(unbeaten_base(state));
  state.erase("base");  // of an earlier program
  EXPECT_FALSE(unbeaten_base(state));
  EXPECT_FALSE(unbeaten_base(nlohmann::json::object()));
  EXPECT_FALSE(unbeaten_base(nlohmann::json()));
}

}  // namespace
}  // namespace sutor
