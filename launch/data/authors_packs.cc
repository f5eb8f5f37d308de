#include "launch/data/authors_packs.h"

#include <algorithm>

#include "launch/data/python_random.h"

namespace sutor {
namespace {

// Whether the first token of a segment is in the loss where another token stands before it: the
// authors' label of the begin token is the token itself.
bool first_token_trains(const TokenStore& store, const Segment& segment, bool begins_document) {
  const bool begin_token = begins_document && store.ids(segment.begin, 1)[0] == store.info().bos_id;
  return begin_token || store.loss_mask(segment.begin, 1)[0] == 1;
}

// The part of a document that goes into a pack with `room` tokens left; may be empty.
Segment part_of(const Segment& document, int64_t room, bool pack_is_empty, PythonRandom& random,
                PackingReport& report) {
  Segment part = document;
  if (part.length > room) {
    ++report.truncated;
    report.cut_tokens += part.length - room;
    part.begin += part.length - room;
    part.length = room;
  }
  if (!pack_is_empty && random.next() < kAuthorsDropShare) {
    ++report.first_tokens_dropped;
    ++part.begin;
    --part.length;
  }
  part.joins = !pack_is_empty;
  return part;
}

bool has_target(const std::vector<Segment>& pack) {
  return std::any_of(pack.begin(), pack.end(),
                     [](const Segment& segment) { return segment.supervised > 0; });
}

}  // namespace

std::vector<std::vector<Segment>> authors_packs(std::span<const TokenStore* const> stores,
                                                std::span<const Segment> documents, int64_t seq_len,
                                                PackingReport& report) {
  PythonRandom random(kAuthorsSeed);
  std::vector<std::vector<Segment>> packs;
  std::vector<Segment> pack;
  int64_t tokens = 0;
  const auto emit = [&] {
    if (has_target(pack)) {
      packs.push_back(std::move(pack));
    } else {
      report.unsupervised += static_cast<int64_t>(pack.size());
    }
    pack.clear();
    tokens = 0;
  };
  for (const Segment& document : documents) {
    ++report.documents;
    Segment part = part_of(document, seq_len - tokens, tokens == 0, random, report);
    if (part.length > 0) {
      const TokenStore& store = *stores[static_cast<size_t>(part.store)];
      part.first_is_target =
          part.joins && first_token_trains(store, part, part.begin == document.begin);
      const auto mask = store.loss_mask(part.begin, part.length);
      part.supervised = std::count(mask.begin() + 1, mask.end(), uint8_t{1}) + part.first_is_target;
      pack.push_back(part);
      tokens += part.length;
    }
    if (tokens == seq_len) emit();
  }
  if (!pack.empty()) emit();
  return packs;
}

}  // namespace sutor
