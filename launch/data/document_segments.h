// What a document trains as: one segment, several, or none.
#pragma once

#include <string>
#include <vector>

#include "launch/data/sample_order.h"

namespace sutor {

struct SegmentRules {
  int64_t seq_len = 0;
  // Of a document longer than seq_len. drop: nothing. truncate: seq_len tokens, the first ones with
  // side right, the last ones with side left. split: pieces of seq_len tokens that share a token
  // with their neighbours, so that every token but the document's first is a target once; the short
  // piece is at the side's end.
  std::string too_long = "drop";
  std::string truncation_side = "right";
  // Documents, and pieces of them, without any target; else they are left out and counted.
  bool keep_unsupervised = false;
};

void append_segments(const TokenStore& token_store, int store, const Document& document,
                     const SegmentRules& rules, std::vector<Segment>& segments,
                     PackingReport& report);

}  // namespace sutor
