// What a stage made is compared with what the recipe and its inputs would make now.
#include "launch/steps/stage_checks.h"

#include <gtest/gtest.h>

#include <fstream>

#include "launch/data/rows/sha256.h"
#include "launch/log/run_paths.h"
#include "layers/esft/score_records.h"
#include "layers/esft/select_experts.h"
#include "recipes/recipe_reader.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

class StageChecksTest : public ::testing::Test {
 protected:
  StageChecksTest() {
    fs::create_directories(dir_ / "model");
    rows_ = dir_.write("a.jsonl", "{}\n");
    recipe_ = recipe_with({});
    write_store();
    write_all_scores();
    choose();
  }

  Recipe recipe_with(const std::vector<std::string>& more) {
    std::vector<std::string> sets = {
        "model.path=" + (dir_ / "model").string(), "output=" + paths_.output.string(),
        "data.train=[{path: " + rows_.string() + ", name: a}]", "data.loss_on=all"};
    sets.insert(sets.end(), more.begin(), more.end());
    return recipe_of_sets(sets);
  }
  void write_store(int32_t first_id = 1) {
    TokenStoreInfo info;
    info.vocab_size = 99;
    info.source_digest = sha256_of_file(rows_);
    info.options = {{"loss_on", "all"}, {"format", "tokens"}, {"template", "auto"}};
    if (!tokenizer_.empty()) {
      info.options["template"] = "rag";
      info.tokenizer_digest = tokenizer_;
      info.template_digest = "sha256:template";
      info.inputs = chat_;
    }
    const std::vector<int32_t> ids = {first_id, 2, 3};
    fs::create_directories(paths_.tokens_folder());
    write_token_store(paths_.tokens("a"), ids, std::vector<uint8_t>{0, 1, 1},
                      std::vector<int64_t>{0, 3}, info);
  }
  void write_all_scores(const std::string& base = "xxh3:base") {
    ExpertScores scores({0, 1}, 4, 1);
    for (const int layer : {0, 1}) {
      scores.set_layer(layer, std::vector<int64_t>{3, 2, 1, 0},
                       std::vector<int64_t>{1 << 29, 1 << 29, 1 << 29, 0}, 6);
    }
    const std::string tokens = TokenStore(paths_.tokens("a")).digest().text();
    const MadeFrom made = scores_made_from(recipe_, base, {{"a", tokens}});
    write_scores(scores, {"family", base, "xxh3:data", "1", nlohmann::json(made).dump()},
                 paths_.scores());
  }
  void choose(const std::vector<std::string>& sets = {}) {
    const SelectOptions options = recipe_with(sets).esft.select;
    const ScoreTable scores = read_score_table(paths_.scores());
    write_selection(select_experts(options, scores).config, selection_made_from(options, scores),
                    paths_.expert_config());
  }

  StageChecks checks(const std::string& base = "xxh3:base") { return {recipe_, base}; }
  std::string text() const { return dir_.read("run/expert_config.json"); }

  testing::TempDir dir_;
  RunPaths paths_{dir_ / "run"};
  fs::path rows_;
  Recipe recipe_;
  // Of a store of conversations: the digest of tokenizer.json, and the files beside it.
  std::string tokenizer_;
  nlohmann::json chat_;
};

TEST_F(StageChecksTest, WhatWasMadeByThisRecipeIsValid) {
  EXPECT_EQ(checks().tokens(true, true).standing, Standing::kValid);
  EXPECT_EQ(checks().scores().standing, Standing::kValid);
  EXPECT_EQ(checks().expert_config().standing, Standing::kValid);
}

TEST_F(StageChecksTest, OtherRowsOrOptionsMakeTokensStale) {
  dir_.write("a.jsonl", "{}\n{}\n");
  const StageCheck rows = checks().tokens(true, true);
  EXPECT_EQ(rows.standing, Standing::kStale);
  ASSERT_EQ(rows.reasons.size(), 1u);
  EXPECT_NE(rows.reasons[0].find("rows of a ("), std::string::npos) << rows.reasons[0];
  dir_.write("a.jsonl", "{}\n");
  recipe_ = recipe_with({"data.loss_on=last"});
  EXPECT_EQ(checks().tokens(true, true).reasons,
            std::vector<std::string>{"data.loss_on was all, is last"});
}

TEST_F(StageChecksTest, ATemplateByNameAndItsFilesMakeTokensStale) {
  const fs::path tokenizer = dir_.write("model/tokenizer.json", "{}");
  fs::create_directories(dir_ / "model/additional_chat_templates");
  const fs::path rag = dir_.write("model/additional_chat_templates/rag.jinja", "rag");
  chat_ = {{"model/additional_chat_templates/rag.jinja", sha256_of_file(rag)},
           {"tokenizer/added_tokens.json", "absent"}};
  tokenizer_ = sha256_of_file(tokenizer);
  write_store();
  recipe_ = recipe_with({"data.template=rag"});
  EXPECT_EQ(checks().tokens(true, true).standing, Standing::kValid);
  recipe_ = recipe_with({"data.template=tool_use", "data.loss_on_thinking=false"});
  EXPECT_EQ(checks().tokens(true, true).reasons,
            (std::vector<std::string>{"data.loss_on_thinking was true, is false",
                                      "data.template was rag, is tool_use"}));
  recipe_ = recipe_with({"data.template=rag"});
  dir_.write("model/additional_chat_templates/rag.jinja", "changed");
  dir_.write("model/added_tokens.json", "{}");
  const StageCheck files = checks().tokens(true, true);
  ASSERT_EQ(files.reasons.size(), 2u);
  EXPECT_NE(files.reasons[0].find("rag.jinja was sha256:"), std::string::npos);
  EXPECT_NE(files.reasons[1].find("added_tokens.json was absent"), std::string::npos);
}

TEST_F(StageChecksTest, RowsThatAreGoneLeaveTokensValidAndAreNoted) {
  fs::remove(rows_);
  const StageCheck check = checks().tokens(true, true);
  EXPECT_EQ(check.standing, Standing::kValid);
  ASSERT_EQ(check.notes.size(), 1u);
}

TEST_F(StageChecksTest, DamagedTokensAreNotStale) {
  std::fstream file(paths_.tokens("a"), std::ios::in | std::ios::out | std::ios::binary);
  const std::string content = dir_.read("run/tokens/a.tokens.h5");
  file.seekp(static_cast<std::streamoff>(content.find(std::string("\2\0\0\0\3\0\0\0", 8))));
  file.put('\7');
  file.close();
  EXPECT_EQ(checks().tokens(true, true).standing, Standing::kDamaged);
}

TEST_F(StageChecksTest, ScoresBelongToTokensModelAndKeys) {
  EXPECT_EQ(checks("xxh3:other").scores().reasons,
            std::vector<std::string>{"the base model was xxh3:base, is xxh3:other"});
  recipe_ = recipe_with({"esft.score.count=supervised", "data.packing=false"});
  const StageCheck count = checks().scores();
  EXPECT_EQ(count.standing, Standing::kStale);
  ASSERT_EQ(count.reasons.size(), 1u);  // packing is nothing to scores
  EXPECT_NE(count.reasons[0].find("esft.score.count was"), std::string::npos);
  recipe_ = recipe_with({});
  write_store(/*first_id=*/7);
  const StageCheck tokens = checks().scores();
  ASSERT_EQ(tokens.reasons.size(), 1u);
  EXPECT_NE(tokens.reasons[0].find("the tokens of a was xxh3:"), std::string::npos);
  fs::remove(paths_.tokens("a"));
  EXPECT_EQ(checks().scores().standing, Standing::kValid);
  EXPECT_EQ(checks().scores().notes.size(), 1u);
}

TEST_F(StageChecksTest, AConfigBelongsToScoresAndKeys) {
  choose({"esft.select.layers=[1]"});
  EXPECT_EQ(checks().expert_config().reasons,
            std::vector<std::string>{"esft.select.layers was [1], is all"});
  testing::expect_error(ErrorCode::kOtherInputs, {"esft.select.layers was [1]", "sutor select"},
                        [&] {
                          StageChecks all = checks();
                          require_expert_config(all, recipe_);
                        });
  choose();
  fs::remove(paths_.scores());
  const StageCheck gone = checks().expert_config();
  EXPECT_EQ(gone.standing, Standing::kValid);
  EXPECT_EQ(gone.notes.size(), 1u);
}

TEST_F(StageChecksTest, AnEditIsSeenHoweverItIsWritten) {
  const std::string made = text();
  nlohmann::json json = nlohmann::json::parse(made);
  dir_.write("run/expert_config.json", json.dump(4));  // white space is no edit
  EXPECT_EQ(checks().expert_config().standing, Standing::kValid);
  json["shared_experts"] = true;
  dir_.write("run/expert_config.json", json.dump());
  EXPECT_EQ(checks().expert_config().standing, Standing::kEdited);
  json.erase("made_from");
  dir_.write("run/expert_config.json", json.dump());
  EXPECT_EQ(checks().expert_config().standing, Standing::kEdited);
  dir_.write("run/expert_config.json", made.substr(0, 20));
  const StageCheck cut = checks().expert_config();
  EXPECT_EQ(cut.standing, Standing::kEdited);
  testing::expect_error(ErrorCode::kOtherInputs, {"by a person", "esft.config", "delete it"},
                        [&] { require_unedited(cut); });
}

TEST_F(StageChecksTest, WithoutARecordNothingIsKnown) {
  nlohmann::json json = nlohmann::json::parse(text());
  json.erase("made_from");
  dir_.write("run/expert_config.json", json.dump());
  fs::remove(paths_.scores());
  EXPECT_EQ(checks().expert_config().standing, Standing::kUnknown);
  EXPECT_EQ(checks().expert_config().notes.size(), 1u);
}

}  // namespace
}  // namespace sutor
