// What is refused and warned of when a training is too short, or its data too few.
#include "launch/data/run_length.h"

#include <gtest/gtest.h>

#include <map>

#include "recipes/recipe_reader.h"
#include "tests/support/expect_error.h"
#include "tests/unit/launch/data/store_fixture.h"

namespace sutor {
namespace {

using testing::expect_error;
using testing::make_store;
using testing::TempDir;

class RunLength : public ::testing::Test {
 protected:
  // What is printed for a training on ten documents of which those listed have no target.
  std::string check(std::vector<std::string> sets, int64_t steps,
                    const std::vector<size_t>& masked = {}, bool print = true) {
    sets.insert(sets.begin(),
                {"model.path=m", "output=o", "data.packing=false", "data.seq_len=64"});
    const Recipe recipe = recipe_of_sets(sets);
    const TokenStore store = make_store(dir_, "a", std::vector<int64_t>(10, 8), 0, masked);
    const SampleStream stream({&store}, recipe.data, /*seed=*/1, recipe.train.global_batch);
    ::testing::internal::CaptureStderr();
    try {
      check_run_length(recipe, stream, steps, print);
    } catch (...) {
      ::testing::internal::GetCapturedStderr();
      throw;
    }
    return ::testing::internal::GetCapturedStderr();
  }

 private:
  TempDir dir_;
};

TEST_F(RunLength, SaysNothingOfAnOrdinaryTraining) {
  EXPECT_EQ(check({"train.global_batch=10", "schedule.warmup=6"}, 6), "");
  EXPECT_EQ(check({"train.global_batch=4", "schedule.warmup=3%"}, 6), "");
}

TEST_F(RunLength, ABatchBeyondTheDataIsNamedWithBothNumbers) {
  const std::string text = check({"train.global_batch=32"}, 6);
  for (const char* word : {"W0105", "32", "10 documents"}) {
    EXPECT_NE(text.find(word), std::string::npos) << text;
  }
}

TEST_F(RunLength, AWarmUpBeyondTheRunIsNamedWithTheRateThatIsReached) {
  const std::string text =
      check({"train.global_batch=4", "schedule.warmup=100", "optim.lr=1e-3"}, 10);
  for (const char* word : {"W0106", "100 steps", "ends after 10", "0.0001"}) {
    EXPECT_NE(text.find(word), std::string::npos) << text;
  }
}

TEST_F(RunLength, AWarmUpOfWhichOnlyTheBeginningWouldRunIsRefused) {
  expect_error(ErrorCode::kBadValue, {"schedule.warmup", "1000000"},
               [&] { check({"schedule.warmup=1000000"}, 10); });
}

TEST_F(RunLength, OnlyOneRankPrints) {
  EXPECT_EQ(check({"train.global_batch=32", "schedule.warmup=100"}, 10, {}, /*print=*/false), "");
}

TEST_F(RunLength, DocumentsWithoutATokenInTheLossAreCountedOnce) {
  const std::string text = check({"train.global_batch=1"}, 6, {0, 1, 5});
  EXPECT_NE(text.find("warning[W0114]: 3 of 10 documents have no token in the loss"),
            std::string::npos)
      << text;
  EXPECT_EQ(text.find("lost it"), std::string::npos) << text;
  EXPECT_EQ(check({"train.global_batch=1"}, 6, {0, 1, 5}, /*print=*/false), "");
}

TEST_F(RunLength, DocumentsThatAreTooLongAreNamedWithWhatBecameOfThem) {
  for (const auto& [sets, words] :
       std::map<std::string, std::string>{{"data.too_long=truncate", "truncated, on the right"},
                                          {"data.too_long=split", "split into pieces"}}) {
    const std::string text = check({"train.global_batch=1", sets, "data.seq_len=5"}, 6);
    EXPECT_NE(text.find("warning[W0115]: of 10 documents, 10 are longer than data.seq_len 5"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find(words), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace sutor
