// Facts about rows before there is a recipe, by the reader and the tokenizer of `prepare`.
#pragma once

#include <string>
#include <vector>

#include "launch/start/chosen_values.h"

namespace sutor {

struct RowFactsRequest {
  std::string model;  // a directory, or a base store
  std::vector<std::string> paths;
  std::string loss_on = "assistant";
  std::string tokenizer = "auto", chat_template = "auto";
};

// All rows are counted; as many are tokenised as take some seconds. Throws what `prepare` does for
// rows, tokenizer or template that cannot be used (the script has said why), E0331 for a path
// without rows.
RowFacts read_row_facts(const RowFactsRequest& request);

}  // namespace sutor
