// What the data means for a run: how many steps, and which micro-batches need most memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/data/micro_batch.h"
#include "parallel_state/layout/rank_layout.h"
#include "recipes/recipe.h"

namespace sutor {

// Micro-batches that a rank has in flight at a time.
struct BatchesInFlight {
  std::vector<MicroBatch> batches;
  // Tokens of each other rank of its expert group meanwhile, over its own: the last batch of an
  // epoch, and documents that are not packed, are not equal on all ranks.
  double peer_tokens = 1;
};

struct PlannedData {
  bool prepared = false;  // the token stores are there: nothing below is guessed
  std::string text;       // of the data, in one line
  std::vector<std::string> remarks;
  std::optional<int64_t> steps;  // of the training; none: it depends on data that nobody has
  std::optional<double> steps_an_epoch;
  int64_t tokens_a_step = 0;  // on average, the smaller last step of an epoch included
  double supervised = 1;      // share of the tokens in the loss
  // The micro-batches that need most memory, once for each way in which they may; and those of an
  // evaluation. Without token stores: full ones, everything in the loss.
  std::vector<BatchesInFlight> train;
  std::vector<MicroBatch> eval;
  int64_t micro_batches_a_step = 1;  // of a rank
};

// The layout's pipeline says how many micro-batches are in flight, and one more where there are
// more: gradients that are there already are added to. Reads the recipe's token stores where all of
// them are there; else counts rows and estimates their tokens. With `print`, warnings of the stores
// go to stderr as training has them (run_length.h); throws as training does for stores that no
// training could use.
PlannedData plan_data(const Recipe& recipe, int64_t vocab_size, const RankLayout& layout,
                      bool print);

}  // namespace sutor
