// The packs of the ESFT authors' training program (arXiv 2407.01906, deepseek-ai/ESFT), to train in
// the paper's setting: documents one after the other in file order. One that is longer than the
// room left in its pack keeps its last tokens; in a pack that is not empty, a document then loses
// its first token with a probability of 0.2, drawn by Python's generator with the authors' seed.
// Nothing isolates the documents of a pack: attention and positions go on, and the begin token of
// the next document is a target of the one before.
#pragma once

#include <span>
#include <vector>

#include "launch/data/sample_order.h"

namespace sutor {

inline constexpr uint32_t kAuthorsSeed = 5934875;
inline constexpr double kAuthorsDropShare = 0.2;

// The segments of every pack. `documents`: whole ones, in order. Packs without any target are left
// out. Adds to the report's documents, truncated, cut_tokens, first_tokens_dropped, unsupervised.
std::vector<std::vector<Segment>> authors_packs(std::span<const TokenStore* const> stores,
                                                std::span<const Segment> documents, int64_t seq_len,
                                                PackingReport& report);

}  // namespace sutor
