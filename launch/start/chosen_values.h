// The values with which a new recipe begins: a pure function of the rows, the model and the
// machine.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "parallel_state/model/model_info.h"

namespace sutor {

// Of all training sets together, by the reader and the tokenizer of `prepare`.
struct RowFacts {
  int64_t rows = 0, left_out = 0;
  int64_t documents = 0, tokens = 0, supervised = 0;  // estimates where not all rows were looked at
  int64_t looked_at = 0;                              // rows that were tokenised
  int64_t median = 0, long_one = 0, longest = 0;      // tokens of a document; long_one: of 99%
  std::vector<std::string> forms;                     // "messages"
  std::vector<int64_t> held_out;                      // rows, for each of held_out_shares()
};

// Shares of the rows that may be held out, the least first.
const std::vector<double>& held_out_shares();

struct ModelFacts {
  int64_t parameters = 0, expert_parameters = 0;
  int64_t context = 0;  // tokens; 0: config.json does not say
  int experts = 0;
  bool stored_fp32 = false;
};
ModelFacts model_facts(const ModelInfo& model);

struct StartRequest {
  std::string method = "esft";
  int ranks = 1;
  bool has_eval = false;    // evaluation rows of their own
  int64_t rank_memory = 0;  // bytes that a rank may take; 0: not known
};

struct ChosenValues {
  // Recipe keys -> values as YAML, and the reason for those that depend on something.
  std::map<std::string, std::string> values, reasons;
  double share = 0;  // of the rows to hold out; 0: none
  int64_t packs = 0, steps_an_epoch = 0, steps = 0;
  std::vector<std::string> warnings;  // what the rows are too few or too long for
};

// As many steps as rows can give without being repeated too often: batch and epochs follow from the
// number of packs, the learning rate from method and size of the model, the layout from its memory.
ChosenValues choose_values(const RowFacts& rows, const ModelFacts& model,
                           const StartRequest& request);

}  // namespace sutor
