#include "launch/data/source_mix.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "csrc/base/error.h"
#include "csrc/base/random.h"

namespace sutor {
namespace {

constexpr double kMostDocuments = 4e9;

// The order of the documents of a store in its pass `pass` (0, 1, ...).
std::vector<int64_t> order_of_pass(int64_t documents, uint64_t seed, int64_t pass, int store) {
  const auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
  const auto number = static_cast<uint64_t>(pass);
  // Longer than the sequence of an epoch's shuffle, so that it is another generator.
  std::seed_seq sequence{low(seed),
                         low(seed >> 32),
                         low(number),
                         low(number >> 32),
                         low(static_cast<uint64_t>(store)),
                         uint32_t{1}};
  std::mt19937_64 random(sequence);
  std::vector<int64_t> order(static_cast<size_t>(documents));
  std::iota(order.begin(), order.end(), int64_t{0});
  shuffle(order, random);
  return order;
}

// Takes the documents [begin, end) of the passes of a store, one behind the other.
void take(int store, int64_t documents, int64_t begin, int64_t end, uint64_t seed,
          std::vector<DocumentRef>& taken) {
  while (documents > 0 && begin < end) {
    const int64_t pass = begin / documents, first = begin % documents;
    const int64_t count = std::min(end - begin, documents - first);
    if (count == documents) {
      for (int64_t d = 0; d < documents; ++d) taken.push_back({store, d});
    } else {
      const std::vector<int64_t> order = order_of_pass(documents, seed, pass, store);
      for (int64_t i = first; i < first + count; ++i) taken.push_back({store, order[i]});
    }
    begin += count;
  }
}

}  // namespace

std::vector<double> documents_an_epoch(std::span<const TokenStore* const> stores,
                                       const std::vector<DataSource>& sources) {
  SUTOR_ASSERT(sources.empty() || sources.size() == stores.size());
  double weights = 0, shared = 0;
  for (size_t s = 0; s < sources.size(); ++s) {
    if (!sources[s].weight) continue;
    weights += *sources[s].weight;
    shared += static_cast<double>(stores[s]->num_documents());
  }
  std::vector<double> counts;
  for (size_t s = 0; s < stores.size(); ++s) {
    const auto all = static_cast<double>(stores[s]->num_documents());
    const DataSource source = sources.empty() ? DataSource() : sources[s];
    counts.push_back(source.weight ? shared * *source.weight / weights
                                   : all * source.epochs.value_or(1));
  }
  return counts;
}

std::vector<DocumentRef> documents_of_epoch(std::span<const TokenStore* const> stores,
                                            const std::vector<DataSource>& sources, uint64_t seed,
                                            int64_t epoch) {
  const std::vector<double> counts = documents_an_epoch(stores, sources);
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  if (total > kMostDocuments) {
    fail(ErrorCode::kBadValue,
         "data.train: by its weights and epochs an epoch has {:.0f} documents; at most {:.0f} can "
         "be ordered. Set schedule.epochs instead of epochs of the sets",
         total, kMostDocuments);
  }
  std::vector<DocumentRef> taken;
  for (size_t s = 0; s < stores.size(); ++s) {
    // Rounded in sum over the epochs, so that no document is lost to rounding.
    const auto until = [&](int64_t epochs) {
      return std::llround(static_cast<double>(epochs) * counts[s]);
    };
    take(static_cast<int>(s), stores[s]->num_documents(), until(epoch), until(epoch + 1), seed,
         taken);
  }
  return taken;
}

}  // namespace sutor
