// Which documents an epoch takes from each training set, in a mix of several: a pure function of
// the sets, their weights and epochs, the seed and the epoch.
//
// A set with `epochs: e` gives e times its documents, one with neither key all of them once. Sets
// with weights share out the documents that they have together, each in proportion to its weight.
// A set goes through all its documents before it begins again, from epoch to epoch, so that in the
// long run each document is seen equally often; parts of a pass are chosen at random.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "launch/data/token_store.h"
#include "recipes/recipe.h"

namespace sutor {

struct DocumentRef {
  int store;  // index into the token stores
  int64_t document;
  bool operator==(const DocumentRef&) const = default;
};

// Of each store: how many documents an epoch takes, on the average of many epochs. `sources`: of
// the stores, in their order; empty: every document once.
std::vector<double> documents_an_epoch(std::span<const TokenStore* const> stores,
                                       const std::vector<DataSource>& sources);

// Store by store. Where every document is taken once: all, in the order of the stores.
std::vector<DocumentRef> documents_of_epoch(std::span<const TokenStore* const> stores,
                                            const std::vector<DataSource>& sources, uint64_t seed,
                                            int64_t epoch);

}  // namespace sutor
