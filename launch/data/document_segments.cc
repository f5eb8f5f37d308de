#include "launch/data/document_segments.h"

#include <algorithm>

namespace sutor {
namespace {

int64_t targets_in(const TokenStore& store, int64_t begin, int64_t length) {
  const auto mask = store.loss_mask(begin, length);
  return std::count(mask.begin() + 1, mask.end(), uint8_t{1});
}

// [begin, begin + length) of every piece, in order.
std::vector<Document> pieces_of(const Document& document, const SegmentRules& rules) {
  const int64_t step = rules.seq_len - 1, targets = document.length - 1;
  // With side left, the first piece has what is left over by the others.
  const int64_t over = targets % step;
  int64_t first = rules.truncation_side == "left" && over > 0 ? over : step;
  std::vector<Document> pieces;
  for (int64_t at = 0; at < targets;) {
    const int64_t count = std::min(first, targets - at);
    pieces.push_back({document.begin + at, count + 1});
    at += count;
    first = step;
  }
  return pieces;
}

std::vector<Document> parts_of(const Document& document, const SegmentRules& rules,
                               PackingReport& report) {
  if (document.length <= rules.seq_len) return {document};
  if (rules.too_long == "truncate") {
    ++report.truncated;
    const bool keeps_end = rules.truncation_side == "left";
    return {{document.begin + (keeps_end ? document.length - rules.seq_len : 0), rules.seq_len}};
  }
  if (rules.too_long == "split") {
    ++report.split;
    return pieces_of(document, rules);
  }
  ++report.dropped;
  return {};
}

}  // namespace

void append_segments(const TokenStore& token_store, int store, const Document& document,
                     const SegmentRules& rules, std::vector<Segment>& segments,
                     PackingReport& report) {
  ++report.documents;
  const std::vector<Document> parts = parts_of(document, rules, report);
  if (parts.empty()) return;
  int64_t supervised = 0, without = 0;
  for (const Document& part : parts) {
    const int64_t targets = targets_in(token_store, part.begin, part.length);
    supervised += targets;
    without += targets == 0;
    if (targets == 0 && !rules.keep_unsupervised) continue;
    segments.push_back({store, part.begin, part.length, targets});
  }
  if (rules.keep_unsupervised) return;
  if (supervised > 0) {
    report.unsupervised_pieces += without;
    return;
  }
  ++report.unsupervised;
  report.cut_unsupervised += targets_in(token_store, document.begin, document.length) > 0;
}

}  // namespace sutor
