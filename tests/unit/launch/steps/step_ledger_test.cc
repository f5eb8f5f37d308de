// When a step of `run` counts as done: while its outputs exist and nothing that they depend on has
// changed.
#include "launch/steps/step_ledger.h"

#include <gtest/gtest.h>

#include "launch/steps/step_fingerprint.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

using Paths = std::vector<std::filesystem::path>;

class Ledger : public ::testing::Test {
 protected:
  Ledger() {
    input_ = dir_.write("rows.jsonl", "rows");
    output_ = dir_.write("scores.h5", "scores");
    StepLedger(path_).finished(RecipeStep::kScore, now());
  }

  // Of what the step depends on at this moment, as a start of `run` finds it.
  Digest now() const {
    FileDigests files;
    return step_fingerprint(keys_, {input_}, {base_}, files);
  }
  bool valid() const { return StepLedger(path_).valid(RecipeStep::kScore, now(), {output_}); }

  testing::TempDir dir_;
  std::filesystem::path path_ = dir_ / "stages.json", input_, output_;
  std::string keys_ = "esft.score.tokens: 100\n", base_ = "xxh3:1";
};

TEST_F(Ledger, AStepStaysValidOverStarts) {
  EXPECT_TRUE(valid());
  EXPECT_TRUE(valid());
  EXPECT_FALSE(StepLedger(path_).valid(RecipeStep::kSelect, now(), {output_}));
}

TEST_F(Ledger, ChangedInputsEndIt) {
  dir_.write("rows.jsonl", "Rows");
  EXPECT_FALSE(valid());
  dir_.write("rows.jsonl", "rows");
  EXPECT_TRUE(valid());
  std::filesystem::remove(input_);
  EXPECT_FALSE(valid());
}

TEST_F(Ledger, ChangedKeysEndIt) {
  keys_ = "esft.score.tokens: 101\n";
  EXPECT_FALSE(valid());
}

TEST_F(Ledger, AnotherBaseModelEndsIt) {
  base_ = "xxh3:2";
  EXPECT_FALSE(valid());
}

TEST_F(Ledger, AGoneOutputEndsIt) {
  std::filesystem::remove(output_);
  EXPECT_FALSE(valid());
}

// The file that an earlier program left: the digest of version 1, and one of another version.
TEST_F(Ledger, AnotherFormatVersionEndsIt) {
  const auto of_version = [&](int64_t version) {
    Hasher hasher;
    hasher.update_int(version);
    hasher.update(keys_);
    hasher.update(xxh3("rows").text());
    hasher.update(base_ + "\n");
    return hasher.digest();
  };
  StepLedger(path_).finished(RecipeStep::kScore, of_version(1));
  EXPECT_TRUE(valid());
  StepLedger(path_).finished(RecipeStep::kScore, of_version(2));
  EXPECT_FALSE(valid());
}

TEST_F(Ledger, AStepThatWasStartedIsNotValidUntilItHasFinished) {
  StepLedger(path_).finished(RecipeStep::kPrepare, now());
  StepLedger(path_).started(RecipeStep::kScore);
  EXPECT_FALSE(valid());
  EXPECT_TRUE(StepLedger(path_).valid(RecipeStep::kPrepare, now(), {}));
  StepLedger(path_).finished(RecipeStep::kScore, now());
  EXPECT_TRUE(valid());
}

TEST_F(Ledger, ACorruptFileCountsAsEmptyAndIsReplaced) {
  const std::string good = dir_.read(path_);
  for (const std::string& corrupt :
       {std::string(), good.substr(0, good.size() / 2), std::string("[1, 2]\n"),
        std::string("{\"score\": 7}\n"), std::string(3, '\0')}) {
    dir_.write("stages.json", corrupt);
    EXPECT_FALSE(valid()) << corrupt;
    StepLedger(path_).started(RecipeStep::kScore);
    StepLedger(path_).finished(RecipeStep::kScore, now());
    EXPECT_TRUE(valid()) << corrupt;
  }
  EXPECT_EQ(dir_.read(path_), good);
}

TEST_F(Ledger, AFileThatCannotBeReadIsAnError) {
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  testing::expect_error(ErrorCode::kUnreadableFile, {"stages.json"},
                        [&] { StepLedger ledger(path_); });
}

}  // namespace
}  // namespace sutor
