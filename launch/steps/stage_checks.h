// Whether what a stage made is still what the recipe and its inputs would make now. One process;
// reads the whole of rows, token stores and scores once.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "launch/data/token_store.h"
#include "launch/steps/made_from.h"
#include "recipes/recipe.h"

namespace sutor {

enum class Standing : uint8_t {
  kValid,
  kUnknown,  // carries no record: of an earlier version
  kAbsent,
  kDamaged,
  kStale,   // made from something else
  kEdited,  // by a person
};

struct StageCheck {
  Standing standing = Standing::kValid;
  std::vector<std::string> reasons;  // why it is not valid
  std::vector<std::string> notes;    // what could not be compared
};

class StageChecks {
 public:
  // `base_digest`: of the model that the recipe names. The recipe must outlive this.
  StageChecks(const Recipe& recipe, std::string base_digest)
      : recipe_(recipe), base_(std::move(base_digest)) {}

  // The token stores of the recipe's sets: rows, tokenizer, template, options. Throws E0301 or
  // E0331 for a file that is there and cannot be read.
  StageCheck tokens(bool train, bool eval);
  // scores.h5: the tokens that there are now, the model, the keys.
  StageCheck scores();
  // expert_config.json of the output: the scores that there are now, the keys, and whether a person
  // edited it.
  StageCheck expert_config();
  // Token stores were made anew.
  void forget_tokens() { digests_.clear(); }

 private:
  void check_store(const DataSource& source, StageCheck& check);
  MadeFrom inputs_now(const DataSource& source, const TokenStoreInfo& info, StageCheck& check);
  std::string store_digest(const std::filesystem::path& path);
  const std::string& file_digest(const std::filesystem::path& path);

  const Recipe& recipe_;
  std::string base_;
  std::map<std::filesystem::path, std::string> files_;    // sha256 of inputs
  std::map<std::filesystem::path, std::string> digests_;  // of token stores
};

// Of the verbs that run one stage: throw E0224, naming the differences and the command that mends
// them, when what the stage before made comes of something else, E0333 or E0325 when it is damaged.
// Print a line for what cannot be compared. Nothing is said of outputs that are not there.
void require_tokens(StageChecks& checks, const Recipe& recipe, bool train, bool eval);
void require_scores(StageChecks& checks, const Recipe& recipe);
void require_expert_config(StageChecks& checks, const Recipe& recipe);
// Before it is written over: throws E0224 when a person edited it.
void require_unedited(const StageCheck& config);

// "note: ..." on stdout.
void print_notes(const StageCheck& check);

}  // namespace sutor
