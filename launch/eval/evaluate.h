// Loss, perplexity, token accuracy and exact matches of a model on a named set of documents, by
// teacher forcing: every token is predicted from the true ones before it.
#pragma once

#include <string>
#include <vector>

#include "launch/data/sample_order.h"
#include "launch/data/token_store.h"
#include "launch/data/token_stores.h"
#include "launch/log/metrics_log.h"
#include "layers/decoder/causal_model.h"

namespace sutor {

struct EvalSet {
  std::string name;
  const TokenStore* store = nullptr;
  std::vector<Sample>
      samples;  // packs of isolated documents, made for speed; the result is the same
};

// The recipe's evaluation sets: documents in file order, packed to about a micro-batch's tokens a
// forward pass. `stores` must outlive them.
std::vector<EvalSet> make_eval_sets(const Recipe& recipe, const TokenStores& stores);

// Global layer -> fp32 [experts]: 1 for experts that the router may choose, 0 for the others.
// Layers that are absent choose from all.
using ExpertMask = std::map<int, at::Tensor>;

// The means over all targets of several sets, as of one set called `name`; without exact_match.
EvalMetrics taken_together(const std::string& name, std::span<const EvalMetrics> sets);

// Means over all targets of the set, but exact_match: the share of documents all of whose targets
// are predicted. Collective over the world. Throws E7500 on all ranks, between two batches, when a
// signal asks any of them to stop.
EvalMetrics evaluate(const CausalModel& model, const EvalSet& set, int64_t step,
                     const ExpertMask& mask = {});

}  // namespace sutor
