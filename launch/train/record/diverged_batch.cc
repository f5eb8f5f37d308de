#include "launch/train/record/diverged_batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <ranges>

#include "csrc/base/error.h"
#include "csrc/base/file.h"

namespace sutor {
namespace {

// The document of the store that has the token.
int64_t document_at(const TokenStore& store, int64_t token) {
  const auto documents = std::views::iota(int64_t{0}, store.num_documents());
  const auto after = std::ranges::upper_bound(
      documents, token, {}, [&](int64_t index) { return store.document(index).begin; });
  return after - documents.begin() - 1;
}

nlohmann::json finite(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
}

}  // namespace

std::string document_name(std::span<const TokenStore* const> stores,
                          std::span<const Sample> samples, int64_t document) {
  for (const Sample& sample : samples) {
    for (const Segment& segment : sample.segments) {
      if (segment.joins || document-- > 0) continue;
      const TokenStore& store = *stores[static_cast<size_t>(segment.store)];
      return fmt::format("document {} of {}", document_at(store, segment.begin),
                         store.info().source_name);
    }
  }
  SUTOR_ASSERT(false);
  return {};
}

void write_diverged_batch(const RunPaths& paths, const DivergedStep& diverged,
                          std::span<const TokenStore* const> stores,
                          std::span<const Sample> samples, const MicroBatch& micro_batch) {
  nlohmann::ordered_json file{{"step", diverged.step},
                              {"loss", finite(diverged.loss)},
                              {"grad_norm", finite(diverged.grad_norm)},
                              {"place", diverged.place},
                              {"documents", nlohmann::json::array()}};
  const std::vector<int64_t>& offsets = micro_batch.doc_offsets;
  for (size_t d = 0; d + 1 < offsets.size(); ++d) {
    nlohmann::json ids = nlohmann::json::array(), targets = nlohmann::json::array();
    for (auto t = static_cast<size_t>(offsets[d]); t < static_cast<size_t>(offsets[d + 1]); ++t) {
      const int64_t target = micro_batch.targets[t];
      ids.push_back(micro_batch.ids[t]);
      targets.push_back(target == kNoTarget ? nlohmann::json() : nlohmann::json(target));
    }
    file["documents"].push_back({{"name", document_name(stores, samples, static_cast<int64_t>(d))},
                                 {"ids", std::move(ids)},
                                 {"targets", std::move(targets)}});
  }
  try {
    write_file_atomic(paths.diverged_batch(), file.dump() + "\n");
  } catch (const Error&) {
  }
}

}  // namespace sutor
