// Scoring: a sample of the training tokens through the frozen model, counting what the routers
// chose.
#pragma once

#include <filesystem>
#include <optional>

#include "csrc/comm/comm.h"
#include "launch/data/token_store.h"
#include "launch/model/session.h"
#include "layers/esft/expert_scores.h"
#include "recipes/recipe.h"

namespace sutor {

struct ScoreResult {
  ExpertScores scores;  // over all ranks
  // Those of the first half of the sample, which ends where a document does: how far two samples
  // of that size agree tells whether the whole one is large enough.
  ExpertScores first_half;
  Digest sample_digest;  // of the stores, the seed and the number of tokens
  int64_t tokens = 0;    // routed
  double seconds = 0;
};

// Collective. Documents are shuffled by esft.score.seed and taken until esft.score.tokens tokens
// are reached (the last one is truncated; -1 = all); longer ones than data.seq_len are routed in
// segments. records: where each rank writes the authors' text records, one line a segment
// (rank_<r>/ below it when there are several ranks).
ScoreResult score_model(const Recipe& recipe, Session& session,
                        std::span<const TokenStore* const> stores,
                        const std::optional<std::filesystem::path>& records);

}  // namespace sutor
