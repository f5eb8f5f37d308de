// Batch, steps and rate of a new recipe follow from the rows, the model and the machine.
#include "launch/start/chosen_values.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace sutor {
namespace {

// `rows` documents of about `length` tokens; shares are held out as a hash would.
RowFacts facts(int64_t rows, int64_t length) {
  RowFacts facts{.rows = rows,
                 .documents = rows,
                 .tokens = rows * length,
                 .supervised = rows * length / 2,
                 .looked_at = rows};
  facts.median = length;
  facts.long_one = length * 3 / 2;
  facts.longest = length * 2;
  for (const double share : held_out_shares()) {
    facts.held_out.push_back(static_cast<int64_t>(share * static_cast<double>(rows)));
  }
  return facts;
}

const ModelFacts kLite{.parameters = 15'710'000'000,
                       .expert_parameters = 14'000'000'000,
                       .context = 163840,
                       .experts = 64};
const ModelFacts kTiny{.parameters = 500'000,
                       .expert_parameters = 300'000,
                       .context = 4096,
                       .experts = 8,
                       .stored_fp32 = true};

double number(const ChosenValues& chosen, const char* key) {
  const auto found = chosen.values.find(key);
  return found == chosen.values.end() ? -1 : std::atof(found->second.c_str());
}

TEST(ChosenValues, TwoHundredRowsGetEnoughSteps) {
  for (const int64_t length : {40, 300, 1500}) {
    const ChosenValues chosen = choose_values(facts(200, length), kLite, {});
    EXPECT_GE(chosen.steps, 40) << length;
    EXPECT_LE(chosen.steps, 400) << length;
    EXPECT_LE(number(chosen, "schedule.epochs"), 5) << length;
    EXPECT_DOUBLE_EQ(chosen.share, 0.1) << length;  // 20 rows
  }
}

TEST(ChosenValues, ManyRowsGetTheBatchOfThePaperAndOneEpoch) {
  const ChosenValues chosen = choose_values(facts(52'110, 934), kLite, {});
  EXPECT_EQ(number(chosen, "data.seq_len"), 4096);
  EXPECT_EQ(number(chosen, "train.global_batch"), 32);
  EXPECT_EQ(number(chosen, "schedule.epochs"), 1);
  EXPECT_DOUBLE_EQ(chosen.share, 0.01);
  EXPECT_TRUE(chosen.warnings.empty());
}

TEST(ChosenValues, StepsAreThosePacksAndBatchMake) {
  for (const int64_t rows : {1, 10, 200, 5000, 100'000}) {
    for (const int ranks : {1, 3, 8}) {
      const ChosenValues chosen = choose_values(facts(rows, 200), kLite, {.ranks = ranks});
      const auto batch = static_cast<int64_t>(number(chosen, "train.global_batch"));
      EXPECT_EQ(batch % ranks, 0);
      EXPECT_EQ(chosen.steps_an_epoch, (chosen.packs + batch - 1) / batch);
      EXPECT_EQ(chosen.steps,
                chosen.steps_an_epoch * static_cast<int64_t>(number(chosen, "schedule.epochs")));
      EXPECT_EQ(number(chosen, "eval.every"), number(chosen, "checkpoint.every"));
    }
  }
}

TEST(ChosenValues, FewRowsAreSaidToBeFew) {
  const ChosenValues chosen = choose_values(facts(4, 100), kLite, {});
  EXPECT_EQ(chosen.share, 0);
  ASSERT_EQ(chosen.warnings.size(), 2u);
  EXPECT_NE(chosen.warnings[0].find("--eval"), std::string::npos);
  EXPECT_NE(chosen.warnings[1].find("too little"), std::string::npos);
}

TEST(ChosenValues, RowsThatWouldNotBeHeldOutInEverySetAreNot) {
  RowFacts rows = facts(200, 100);
  rows.held_out = {-1, -1, 12, 30};  // one set has none at the small shares
  EXPECT_DOUBLE_EQ(choose_values(rows, kLite, {}).share, 0.2);
  EXPECT_EQ(choose_values(rows, kLite, {.has_eval = true}).share, 0);
}

TEST(ChosenValues, PacksHoldTheLongestDocumentUpToTheContext) {
  const ChosenValues chosen = choose_values(facts(1000, 700), kLite, {});
  EXPECT_GE(number(chosen, "data.seq_len"), 1400);
  EXPECT_EQ(chosen.values.count("data.too_long"), 0u);
  const ChosenValues cut = choose_values(facts(1000, 9000), kTiny, {});
  EXPECT_EQ(number(cut, "data.seq_len"), 4096);
  EXPECT_EQ(cut.values.at("data.too_long"), "truncate");
  EXPECT_NE(cut.warnings.front().find("18000"), std::string::npos);
}

TEST(ChosenValues, TheRateFollowsFromMethodAndSize) {
  const RowFacts rows = facts(1000, 200);
  EXPECT_DOUBLE_EQ(number(choose_values(rows, kLite, {}), "optim.lr"), 1e-5);
  EXPECT_DOUBLE_EQ(number(choose_values(rows, kLite, {.method = "lora"}), "optim.lr"), 1e-4);
  EXPECT_DOUBLE_EQ(number(choose_values(rows, kTiny, {}), "optim.lr"), 1e-2);
  EXPECT_DOUBLE_EQ(number(choose_values(rows, kTiny, {.method = "full"}), "optim.lr"), 1e-3);
  EXPECT_EQ(choose_values(rows, kTiny, {}).values.at("model.dtype"), "fp32");
  EXPECT_EQ(choose_values(rows, kLite, {}).values.at("model.dtype"), "bf16");
}

TEST(ChosenValues, ExpertsAreSpreadOnlyWhereTheyMustBe) {
  const RowFacts rows = facts(1000, 200);
  const auto ep = [&](int ranks, int64_t memory) {
    return number(choose_values(rows, kLite, {.ranks = ranks, .rank_memory = memory}),
                  "parallel.ep");
  };
  EXPECT_EQ(ep(1, 1), -1);  // no key
  EXPECT_EQ(ep(8, int64_t{80} << 30), 1);
  EXPECT_EQ(ep(8, int64_t{40} << 30), 2);
  EXPECT_EQ(ep(8, int64_t{1} << 30), 8);
  EXPECT_EQ(ep(6, int64_t{1} << 30), 2);  // what divides ranks and experts
}

}  // namespace
}  // namespace sutor
